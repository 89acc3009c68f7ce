"""What is measured on a GPU, in which sizes, and the small sizes of a dry run on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.schema import NetworkSpec

BACKWARD = {"resnet18": ((16, 0), (8, 2)), "tiny": ((4, 0), (2, 1))}
"""The two connections of each backbone."""

BLOCKS = {"tiny": ((1, 1), (2, 2))}
"""The blocks of the peer's network, where it is not ResNet-18."""


@dataclass(frozen=True)
class Plan:
    """A network, and how large, how often and how long it is measured.

    `seconds` is what all parts may take together. `batch` and `large` are samples of a step, `steps` the steps T.
    `sweep` are further pairs of samples and steps. `compiler` is the backend of torch.compile. A `patient` one
    begins no part for which too little time is left.
    """

    device: str = "cuda"
    seconds: float = 450.0
    backbone: str = "resnet18"
    width: int = 64
    size: int = 32
    batch: int = 32
    large: int = 128
    steps: int = 4
    precisions: tuple[str, ...] = ("tf32", "float32", "bf16")
    sweep: tuple[tuple[int, int], ...] = ((8, 4), (256, 4), (32, 1), (32, 16))
    rounds: int = 5
    times: int = 10
    scored: int = 64
    candidates: int = 20
    samples: int = 1024
    updates: int = 60
    compiler: str = "inductor"
    patient: bool = True

    @property
    def shape(self) -> dict[str, Any]:
        """The peer's network."""
        blocks = {"blocks": BLOCKS[self.backbone]} if self.backbone in BLOCKS else {}
        return {"width": self.width, **blocks}

    @property
    def backward(self) -> tuple[tuple[int, int], ...]:
        """The two connections."""
        return BACKWARD[self.backbone]

    def spec(self, steps: int | None = None, *, feedback: bool = True, more: str = "") -> NetworkSpec:
        """The network, with the two connections or without; `more` are further blocks of its file."""
        text = f"""bcg 1
        network measured {{
          input = image(3, {self.size}, {self.size})
          steps = {self.steps if steps is None else steps}
          backbone = {self.backbone}(width={self.width}, classes=10)
        }}
        {more}"""
        spec = bcgraph.parse(text)
        return spec.with_backward(self.backward) if feedback else spec

    def images(self, samples: int | None = None) -> Tensor:
        """Inputs on the device."""
        drawn = torch.Generator().manual_seed(0)
        shape = (self.batch if samples is None else samples, 3, self.size, self.size)
        return torch.randn(shape, generator=drawn).to(self.device)

    def peer(self, steps: int | None = None) -> nn.Module | None:
        """SpikingJelly's network with the two connections, in single-step mode, which feedback needs."""
        try:
            from benchmarks.peer import Peer
        except ImportError as error:
            print(f"without SpikingJelly: {error}")
            return None
        return Peer(self.steps if steps is None else steps, self.backward, **self.shape).to(self.device)

    def multi_step_peer(self, backend: str) -> nn.Module | None:
        """SpikingJelly's network without feedback; None where its `backend` does not run here."""
        if backend != "torch" and find_spec(backend) is None:
            # It would run another instead.
            print(f"without SpikingJelly's backend {backend}, which is not installed")
            return None
        try:
            from benchmarks.peer import MultiStepPeer

            peer = MultiStepPeer(self.steps, backend, **self.shape).to(self.device)
            peer(self.images(2))
        # A backend may fail in any way.
        except Exception as error:
            print(f"without SpikingJelly's backend {backend}: {first_line(error)}")
            return None
        return peer


DRY = Plan(
    device="cpu",
    seconds=120.0,
    backbone="tiny",
    width=4,
    size=8,
    batch=4,
    large=6,
    steps=2,
    precisions=("bf16",),
    sweep=((2, 1),),
    rounds=1,
    times=1,
    scored=20,
    candidates=2,
    samples=8,
    updates=2,
    compiler="eager",
    patient=False,
)
"""A run on any machine that goes through everything. Its figures mean nothing."""


def first_line(error: BaseException) -> str:
    """What a message says first."""
    return (str(error).strip() or repr(error)).splitlines()[0]
