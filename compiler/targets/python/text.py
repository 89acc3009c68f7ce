"""The frame of a .py export: what stands around the lines of `forward`."""

# Names that `forward` must not use for a value.
TAKEN = frozenset({"F", "O_", "Path", "Tensor", "hashlib", "load", "nearest", "nn", "self", "torch", "_"})

NEAREST = '''

def nearest(x: Tensor, height: int, width: int) -> Tensor:
    """Nearest neighbor: row i of the result is row `i * h // height` of `x`."""
    rows = torch.arange(height, device=x.device) * x.shape[-2] // height
    columns = torch.arange(width, device=x.device) * x.shape[-1] // width
    return x.index_select(-2, rows).index_select(-1, columns)
'''

FILE = '''"""The network {name}, unrolled over its {steps} steps. Written by bcgraph, needs torch and safetensors.

    network = load()
    O = network(x)      # x {takes}, {raw}; O [{steps}, N, {outputs}]

The prediction is the arg max of {readout}. Neurons are the functions below; `.s` of a layer are
its spikes, other names are states of its neurons. Norms are part of the convolutions' weights.
"""

{about}
#
{mark}{specification}

import hashlib
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = {steps}
CLASSES = {classes!r}
WEIGHTS = {weights!r}
WEIGHTS_SHA256 = {digest!r}


{neurons}
{nearest}

class Network(nn.Module):
    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in weights.items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor):
{forward}


def load(path: str | Path | None = None) -> Network:
    """The network with the weights from `path`, or from the file beside this one."""
    data = Path(path or Path(__file__).with_name(WEIGHTS)).read_bytes()
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise ValueError(f"{{WEIGHTS}} is not the weights file that was written with {{__file__}}")
    return Network(safetensors.torch.load(data)).eval()
'''
