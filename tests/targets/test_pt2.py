"""Files of torch.export: equal to torch, with a free batch, and loaded where bcgraph is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bcgraph
from bcgraph.compiler.targets.pt2 import file as pt2
from bcgraph.errors import CompileError
from bcgraph.normalization import Normalization
from tests import forked
from tests.targets.test_onnx import agreeing, inputs, lively, network

# Python that can import torch but neither bcgraph nor anything else of this repository.
ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "bcgraph":
            raise ModuleNotFoundError("bcgraph is blocked here")
sys.meta_path.insert(0, Blocked())
assert "bcgraph" not in sys.modules
import numpy, torch
torch.set_num_threads(1)
program = torch.export.load(sys.argv[1])
x = torch.from_numpy(numpy.load(sys.argv[2]))
with torch.no_grad():
    numpy.save(sys.argv[3], program.module()(x).numpy())
try:
    import bcgraph
except ModuleNotFoundError:
    print("alone")
"""


def alone(path: Path, x: torch.Tensor) -> np.ndarray:
    """What the program in `path` makes of `x`, in a process that cannot import bcgraph."""
    given, made = path.with_suffix(".in.npy"), path.with_suffix(".out.npy")
    np.save(given, x.numpy())
    call = [sys.executable, "-c", ALONE, str(path), str(given), str(made)]
    done = forked.run(call, text=True, cwd=path.parent, alone=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alone\n"
    result: np.ndarray = np.load(made)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("sequence", [False, True], ids=["image", "sequence"])
def test_the_file_is_the_network(sequence: bool, tmp_path: Path) -> None:
    spec = network("tiny(width=4)", sequence=sequence).with_backward([(4, 0, 2), (2, 1), (3, 3)])
    state, x = lively(spec), inputs(spec)
    model = bcgraph.compile(spec).eval()
    model.load_state_dict(state)
    with torch.no_grad():
        expected = model(x).numpy()
    path = tmp_path / "net.pt2"
    normalization = Normalization((0.5, 0.2), (0.25, 2.0), inside=True) if sequence else None
    report = bcgraph.export(spec, path, state_dict=state, inputs=x, normalization=normalization)
    assert report.proof.firing > 0.1
    assert report.size == path.stat().st_size
    given = x if normalization is None else normalization.raw(x)
    assert agreeing(alone(path, given), expected) >= 0.95
    program = torch.export.load(path).module()
    for samples in (1, 5):
        part = given[:, :samples] if sequence else given[:samples]
        assert agreeing(program(part).detach().numpy(), expected[:, :samples]) >= 0.8


def test_only_the_unrolled_form(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        bcgraph.export(network("tiny(width=4)"), tmp_path / "net.pt2", form="scan")
    assert caught.value.code == "E072"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = network("tiny(width=4)", steps=2)
    real = pt2._watching

    def broken(module: torch.fx.GraphModule, spikes: list[tuple[int, int, int]]) -> torch.fx.GraphModule:
        with torch.no_grad():
            module.get_parameter("layer1.0.conv1.weight").mul_(1.5)
        return real(module, spikes)

    monkeypatch.setattr(pt2, "_watching", broken)
    with pytest.raises(CompileError) as caught:
        bcgraph.export(spec, tmp_path / "net.pt2", state_dict=lively(spec), inputs=inputs(spec, 64))
    assert caught.value.code == "E075"
    assert list(tmp_path.iterdir()) == []
