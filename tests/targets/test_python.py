"""Files of plain Python: equal to torch, and run where bcgraph is not installed."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bcgraph
from bcgraph import schema
from bcgraph.compiler.targets.python import file as emitter
from bcgraph.errors import CompileError, RunError
from bcgraph.normalization import Normalization
from bcgraph.schema import NetworkSpec
from tests import forked
from tests.equivalence.support import average, conv, flatten, lif, linear
from tests.equivalence.support import network as by_hand
from tests.targets.test_onnx import agreeing, inputs, lively, network

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
import net
with torch.no_grad():
    numpy.save("out.npy", net.load()(torch.from_numpy(numpy.load("in.npy"))).numpy())
"""

NETWORKS = {
    "image": network("tiny(width=4)").with_backward([(4, 0, 2), (2, 1), (3, 3)]),
    "sequence": network("tiny(width=4)", sequence=True).with_backward([(4, 0), (2, 2)]),
    "plain": network("tiny(width=4)", steps=2, size=6),
    "soft": bcgraph.parse(
        "bcg 1\nnetwork n {\n  input = image(2, 6, 6)\n  steps = 3\n"
        "  neuron = lif(tau=0.25, threshold=0.5, reset=soft)\n"
        "  backbone = tiny(width=4)\n  backward @4 -> @0\n}\n"
    ),
    "dropout": bcgraph.parse(
        "bcg 1\nblock body() {\n  conv = conv(4); bn = bn(); lif = lif(); dropout(0.5); conv2 = conv(4); lif2 = lif()\n"
        "  dropout(0.2); flatten(); drop = dropout(0.2); fc = linear(3)\n}\n"
        "network n { input = image(2, 6, 6); steps = 3; backbone = body(); backward @1 -> @0 }\n"
    ),
    # Python turns names that begin with two underscores into others within a class.
    "underscores": bcgraph.parse(
        "bcg 1\nneuron __n() { learn __w = 1; state __v = 0; u = 0.5 * __v + __w * I; s = spike(u - 1, triangle())\n"
        "  __v = u * (1 - s) }\n"
        "block body() { 0 = conv(4); 1 = bn(); 2 = __n(); __ = conv(4); __b = bn(); _ = __n(); flatten()\n"
        "  fc = linear(3) }\n"
        "network n { input = image(2, 6, 6); steps = 3; backbone = body(); backward @1 -> @0 }\n"
    ),
    "vectors": network("resnet19(width=4)", steps=2).with_backward([(17, 17), (17, 3)]),
}


def expected(spec: NetworkSpec, state: dict[str, torch.Tensor], x: torch.Tensor) -> np.ndarray:
    model = bcgraph.compile(spec).eval()
    model.load_state_dict(state)
    with torch.no_grad():
        result: np.ndarray = model(x).numpy()
    return result


def alone(folder: Path, x: torch.Tensor) -> np.ndarray:
    """What `net.py` in `folder` makes of `x`, in a process that cannot import bcgraph."""
    np.save(folder / "in.npy", x.numpy())
    done = forked.run([sys.executable, "-c", ALONE], text=True, cwd=folder, alone=True)
    assert done.returncode == 0, done.stderr
    result: np.ndarray = np.load(folder / "out.npy")
    return result


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_is_the_network(name: str, tmp_path: Path) -> None:
    spec = NETWORKS[name]
    state, x = lively(spec), inputs(spec)
    normalization = Normalization((0.5, 0.2), (0.25, 2.0), inside=name == "sequence")
    report = bcgraph.export(spec, tmp_path / "net.py", state_dict=state, inputs=x, normalization=normalization)
    assert report.beside == (tmp_path / "net.weights.safetensors",)
    assert report.proof.firing > 0.01
    given = normalization.raw(x) if name == "sequence" else x
    assert agreeing(alone(tmp_path, given), expected(spec, state, x)) >= 0.95


def test_the_file_reads_as_the_network(tmp_path: Path) -> None:
    spec = NETWORKS["image"]
    bcgraph.export(spec, tmp_path / "net.py", state_dict=lively(spec), inputs=inputs(spec))
    text = (tmp_path / "net.py").read_text()
    imported = {
        n.names[0].name if isinstance(n, ast.Import) else n.module
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.Import | ast.ImportFrom)
    }
    assert {str(name).split(".")[0] for name in imported} == {"hashlib", "pathlib", "safetensors", "torch"}
    places = [text.index(f"# step {t}") for t in range(3)]
    assert places == sorted(places)
    for port in spec.ports:
        line = rf"^ +{port.replace('.', '_')}_s_t2 = lif_end\("
        assert len(re.findall(line, text, re.MULTILINE)) == 1
    # What a later step does not read is dropped before it.
    assert "del " in text[places[1] : places[2]]


def test_weights_of_another_export_are_refused(tmp_path: Path) -> None:
    spec = NETWORKS["plain"]
    for name, seed in (("net", 0), ("other", 1)):
        bcgraph.export(spec, tmp_path / f"{name}.py", seed=seed)
    (tmp_path / "other.weights.safetensors").replace(tmp_path / "net.weights.safetensors")
    np.save(tmp_path / "in.npy", inputs(spec).numpy())
    done = forked.run([sys.executable, "-c", ALONE], text=True, cwd=tmp_path, alone=True)
    assert "is not the weights file" in done.stderr


def test_nothing_is_written_when_it_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = NETWORKS["image"]
    with pytest.raises(CompileError) as caught:
        bcgraph.export(spec, tmp_path / "net.py", form="step")
    assert caught.value.code == "E072"
    with pytest.raises(RunError) as refused:
        bcgraph.export(spec, tmp_path / "nowhere" / "net.py")
    assert refused.value.code == "E084"
    real = emitter.neuron_text
    monkeypatch.setattr(emitter, "neuron_text", lambda *given: real(*given).replace("u > 1.0", "u > 0.8"))
    with pytest.raises(CompileError) as wrong:
        bcgraph.export(spec, tmp_path / "net.py", state_dict=lively(spec), inputs=inputs(spec, 64))
    assert wrong.value.code == "E075"
    assert list(tmp_path.iterdir()) == []


def test_what_runs_once_may_stand_between_nodes_of_a_step(tmp_path: Path) -> None:
    """A value of a step lives until its last reader, also where a node that runs once comes in between."""
    body = [
        conv("conv1", 4, kernel=1),
        schema.Concat(name="cat", branches=((), (lif("lif1"),), (conv("conv2", 4),))),
        conv("conv3", 4),
        lif("lif2"),
        average("pool"),
        flatten(),
        linear("fc", 3),
    ]
    spec = by_hand(body, backward=[(0, 0), (1, 0)])
    report = bcgraph.export(spec, tmp_path / "net.py", state_dict=lively(spec), inputs=inputs(spec, 4))
    assert report.proof.differing_samples == 0
