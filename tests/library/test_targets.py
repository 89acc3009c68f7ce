"""Every neuron of the standard library in every target: the file computes what the paper says, or says why not."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph import schema
from bcgraph.compiler.targets.onnx import int8
from bcgraph.errors import CompileError
from bcgraph.runtime import Network
from tests.equivalence import support
from tests.library.plain import NEURONS, LibraryReference
from tests.library.support import CHANNELS, Shapes, network, state, two_ports
from tests.library.test_neurons import SLOW, slow
from tests.targets.nir_reader import Reader
from tests.targets.test_nir import frames
from tests.targets.test_onnx import chained, run

CALLS = {**{name: f"{name}()" for name in NEURONS}, "klif": "klif(threshold=0.5)", "slow": "slow()"}

# Those that NIR has a primitive for, and why it has none for the others.
PRIMITIVES = {"lif": "LIF", "if_": "IF", "plif": "LIF", "cuba": "CubaLIF"}
REFUSED = {
    **dict.fromkeys(["klif", "alif", "izhikevich", "slow"], "has equations that are not those of a NIR neuron"),
    "ilif": "sends something else than spikes or its membrane",
    "relu": "has equations that are not those of a NIR neuron",
}


class Case:
    """A network of one neuron, its weights, samples, and what it makes of them."""

    def __init__(self, name: str, make: Callable[..., schema.NetworkSpec] = network, **settings: Any) -> None:
        self.spec = make(CALLS[name], SLOW, **settings)
        own: Shapes = {port: {"gain": (CHANNELS[port],), "level": ()} for port in self.spec.ports}
        self.state = state(self.spec, own if name == "slow" else None)
        self.x: Tensor = support.batch(self.spec, 16)
        with torch.no_grad():
            self.trace = LibraryReference(self.spec, self.state, more={"slow": slow})(self.x)
        self.expected = self.trace.output.numpy()

    def agrees(self, output: np.ndarray) -> bool:
        """Whether nearly all samples are equal to float32 rounding at every step; a membrane may be a tie."""
        scale = max(1.0, float(np.abs(self.expected).max()) / 10)
        near = np.isclose(output, self.expected, rtol=1e-4, atol=1e-4 * scale).all(axis=(0, 2))
        return float(near.mean()) >= 0.9

    def export(self, path: Path, form: str = "unrolled") -> Path:
        bcgraph.export(self.spec, path, state_dict=self.state, form=form, inputs=self.x.float())
        return path


@pytest.mark.parametrize("form", ["unrolled", "step", "scan"])
@pytest.mark.parametrize("name", CALLS)
def test_onnx(name: str, form: str, tmp_path: Path) -> None:
    case = Case(name)
    path = case.export(tmp_path / "net.onnx", form)
    got = chained(path, case.spec, case.x.float()) if form == "step" else run(path, case.x.float().numpy())[0]
    assert case.agrees(got)


@pytest.mark.parametrize("name", CALLS)
def test_python_text(name: str, tmp_path: Path) -> None:
    case = Case(name)
    model = runpy.run_path(str(case.export(tmp_path / "net.py")))["load"]()
    with torch.no_grad():
        assert case.agrees(model(case.x.float()).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_pt2(name: str, tmp_path: Path) -> None:
    # torch.export takes seconds for a step: the other targets have more of them.
    case = Case(name, two_ports, steps=2, backward=((0, 0), (1, 0)))
    program = torch.export.load(case.export(tmp_path / "net.pt2"))
    with torch.no_grad():
        assert case.agrees(program.module()(case.x.float()).numpy())


@pytest.mark.parametrize("name", PRIMITIVES)
def test_nir(name: str, tmp_path: Path) -> None:
    case = Case(name, backward=())
    reader = Reader(case.export(tmp_path / "net.nir"))
    nodes = {label: node for node, label in reader.labels.items() if reader.kind(node) == PRIMITIVES[name]}
    assert set(nodes) == set(case.spec.ports)
    assert case.trace.rate() > 0.05
    for t, values in enumerate(reader.run(frames(case.spec, case.x))):
        differing = [
            (values[nodes[label]] != case.trace.spikes[port, t].numpy()).mean()
            for port, label in enumerate(case.spec.ports)
        ]
        # The file's time constants are float32.
        assert max(differing) < 0.01


@pytest.mark.parametrize("name", REFUSED)
def test_nir_says_why_it_has_no_such_neuron(name: str, tmp_path: Path) -> None:
    text = f"bcg 1\n{SLOW}\nnetwork n {{\n  input = image(1, 8, 8)\n  steps = 2\n  neuron = {CALLS[name]}\n"
    spec = bcgraph.parse(f"{text}  backbone = body()\n}}\nblock body() {{ a = neuron(); flatten(); fc = linear(2) }}\n")
    with pytest.raises(CompileError) as caught:
        bcgraph.export(spec, tmp_path / "net.nir")
    (found,) = caught.value.diagnostics
    assert (found.code, found.message) == ("E073", f"`a` {REFUSED[name]}")
    assert found.span is not None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["unrolled", "step"])
@pytest.mark.parametrize("name", CALLS)
def test_int8(name: str, form: str, tmp_path: Path) -> None:
    """Whole numbers are sent as they are, other values in 256 levels; the first port hardly changes."""
    case = Case(name)
    source, target = case.export(tmp_path / "net.onnx", form), tmp_path / "int8.onnx"
    x = case.x.float().numpy()
    int8.quantize(source, target, x)
    here, there = (next(iter(int8._watched(Network(path), x))) for path in (source, target))
    first = next(iter(here))
    assert np.abs(here[first] - there[first]).mean() <= 0.03 * np.abs(here[first]).max()
    model = onnx.load(target)
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    sent = {n.output[0] for n in model.graph.node if n.domain == "bcgraph"}
    scales = [n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in sent]
    assert len(scales) > 2
    assert ({float(stored[scale]) for scale in scales} == {1.0}) == (name != "relu")
