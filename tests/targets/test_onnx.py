"""Exported files: checked, run by onnxruntime alone, and equal to torch; a wrong one is never written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import bcgraph
import bcgraph.runtime
from bcgraph.compiler.targets.onnx import building
from bcgraph.compiler.targets.onnx import file as onnx_file
from bcgraph.errors import CompileError, WeightsError
from bcgraph.keys import derive
from bcgraph.normalization import Normalization
from bcgraph.schema import NetworkSpec
from tests.equivalence import support
from tests.equivalence import test_backbones as spine
from tests.reference import Reference


def network(backbone: str, *, sequence: bool = False, steps: int = 3, size: int = 8) -> NetworkSpec:
    feed = f"sequence(2, {size}, {size})" if sequence else f"image(2, {size}, {size})"
    text = f"bcg 1\nnetwork n {{\n  input = {feed}\n  steps = {steps}\n  backbone = {backbone}\n}}\n"
    return bcgraph.parse(text)


def lively(spec: NetworkSpec, seed: int = 0) -> dict[str, Tensor]:
    """Weights under which the network fires in eval mode, with statistics and shifts that are not trivial."""
    generator = torch.Generator().manual_seed(derive(seed, "lively"))
    state = bcgraph.compile(spec).state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) * 0.05 + 0.01)
        elif name.endswith("running_mean") or (value.dim() == 1 and "bn" in name and name.endswith("bias")):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
    return state


def inputs(spec: NetworkSpec, samples: int = 16) -> Tensor:
    lead = (spec.steps, samples) if spec.input.kind == "sequence" else (samples,)
    image = spec.input
    generator = torch.Generator().manual_seed(derive(1, "inputs"))
    return torch.randn((*lead, *image.shape), generator=generator)


def opened(path: Path) -> onnxruntime.InferenceSession:
    """A session whose threads do not wait for work in a loop: on two cores that takes the time of the next test."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path: Path, *arrays: np.ndarray) -> list[np.ndarray]:
    session = opened(path)
    names = [i.name for i in session.get_inputs()]
    results: list[np.ndarray] = session.run(None, dict(zip(names, arrays, strict=True)))
    return results


def chained(path: Path, spec: NetworkSpec, x: Tensor) -> np.ndarray:
    session = opened(path)
    names = [i.name for i in session.get_inputs()]
    batch = x.shape[1 if spec.input.kind == "sequence" else 0]
    states = [np.zeros([batch, *i.shape[1:]], dtype=np.float32) for i in session.get_inputs()[1:]]
    outputs = []
    for t in range(spec.steps):
        frame = x[t] if spec.input.kind == "sequence" else x
        out, *states = session.run(None, dict(zip(names, [frame.numpy(), *states], strict=True)))
        outputs.append(out)
    return np.stack(outputs)


def agreeing(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of samples whose outputs agree to float32 rounding at every step."""
    near = np.isclose(ours, theirs, rtol=1e-4, atol=1e-4).all(axis=(0, 2))
    return float(near.mean())


NAMED = """
bcg 1
block unit() { c = conv(4); lif1 = lif(); mean = conv(4, bias=true); lif2 = lif() }
block body() {
  FIRST = unit(); lif1 = lif(); x_t = conv(4); lif2 = lif(); normalization = unit(); flatten(); fc = linear(3)
}
network n { input = sequence(2, 5, 5); steps = 3; backbone = body(); backward @2 -> @2 }
"""


@pytest.mark.parametrize("form", ["unrolled", "step", "scan"])
@pytest.mark.parametrize("first", ["next", "start", "last", "f32"])
def test_layers_may_have_the_names_of_what_stands_between_layers(first: str, form: str, tmp_path: Path) -> None:
    spec = bcgraph.parse(NAMED.replace("FIRST", first))
    inside = Normalization((0.5, 0.2), (0.25, 2.0), inside=True)
    path, state, x = tmp_path / "net.onnx", lively(spec), inputs(spec, 4)
    bcgraph.export(spec, path, form=form, state_dict=state, inputs=x, normalization=inside, settle=False)
    again = bcgraph.runtime.Network(path)(inside.raw(x).numpy())
    model = bcgraph.compile(spec).eval()
    model.load_state_dict(state)
    assert agreeing(again, model(x).detach().numpy()) == 1.0


# Every backbone with every set of connections that schedules are tested with; of the two largest only two sets.
CASES = [
    (name, label)
    for name in spine.BACKBONES
    for label in spine.CONNECTIONS
    if name not in ("resnet34", "vggsnn") or label in ("self", "crossing")
]
FORMS = ("unrolled", "step", "scan")


def in_forms() -> Iterator[Any]:
    """By day a case in one of the forms: each set of connections meets all, and each backbone with more than two."""
    for index, (name, label) in enumerate(CASES):
        for number, form in enumerate(FORMS):
            marks = () if index % len(FORMS) == number else (pytest.mark.nightly,)
            yield pytest.param(name, label, form, marks=marks, id=f"{name}-{label}-{form}")


@pytest.mark.parametrize(("backbone", "connections", "form"), in_forms())
def test_all_forms_are_the_reference(backbone: str, connections: str, form: str, tmp_path: Path) -> None:
    """In float32, against the reference in float64: a membrane may be a tie, but hardly in one sample of these."""
    spec = spine.network(backbone, spine.CONNECTIONS[connections])
    state, x = support.state(spec), support.batch(spec, 16)
    reference = Reference(spec, state)(x)
    assert reference.rate() > 0.1
    expected = reference.output.detach().numpy()
    path = tmp_path / f"{form}.onnx"
    report = bcgraph.export(spec, path, state_dict=state, form=form, inputs=x.float())
    assert report.proof.firing > 0.1
    got = chained(path, spec, x.float()) if form == "step" else run(path, x.float().numpy())[0]
    assert got.shape == expected.shape
    assert agreeing(got, expected) >= 0.95


def test_the_step_has_the_states_of_the_torch_module(tmp_path: Path) -> None:
    spec = network("tiny(width=4)").with_backward([(4, 0, 2), (2, 2)])
    state, x = lively(spec), inputs(spec)
    path = tmp_path / "step.onnx"
    bcgraph.export(spec, path, state_dict=state, form="step", inputs=x)
    step: Any = bcgraph.compile(spec, schedule="step").eval()
    step.load_state_dict(state)
    states = list(step.initial_states(x))
    with torch.no_grad():
        for _ in range(3):
            ours = step(x, *states)
            theirs = run(path, x.numpy(), *(s.numpy() for s in states))
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs, strict=True):
                assert tuple(a.shape) == b.shape
                np.testing.assert_allclose(a.numpy(), b, atol=1e-4)
            states = list(ours[1:])
    assert any(float(s.abs().sum()) > 0 for s in states)


def test_the_batch_is_free_and_the_file_says_what_it_is(tmp_path: Path) -> None:
    spec = network("tiny(width=4)").with_backward([(4, 0)])
    state = lively(spec)
    path = tmp_path / "net.onnx"
    bcgraph.export(spec, path, state_dict=state, form="step", classes=("a", "b"))
    for samples in (1, 3, 17):
        assert chained(path, spec, inputs(spec, samples)).shape == (3, samples, 10)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    facts = {p.key: p.value for p in model.metadata_props}
    assert bcgraph.parse(facts["bcgraph.spec"]) == spec
    assert facts["bcgraph.fingerprint"] == spec.fingerprint()
    assert json.loads(facts["bcgraph.ports"]) == list(spec.ports)
    assert json.loads(facts["bcgraph.classes"]) == ["a", "b"]
    states = json.loads(facts["bcgraph.states"])
    assert [s["input"] for s in states] == [i.name for i in model.graph.input][1:]
    assert [s["output"] for s in states] == [o.name for o in model.graph.output][1:]
    assert {i.domain: i.version for i in model.opset_import}[""] == building.OPSET
    assert {f.name for f in model.functions} == {"Lif"}
    assert [n.name for n in model.graph.node if n.op_type == "Lif"] == list(spec.ports)


def test_the_unrolled_graph_names_ports_and_steps(tmp_path: Path) -> None:
    spec = network("tiny(width=4)")
    path = tmp_path / "net.onnx"
    bcgraph.export(spec, path)
    names = {n.name for n in onnx.load(path).graph.node}
    assert {f"{port}@t{t}" for port in spec.ports for t in range(3)} <= names


def test_weights_are_stored_once(tmp_path: Path) -> None:
    sizes = {}
    for steps in (2, 8):
        spec = network("tiny(width=16)", steps=steps)
        sizes[steps] = bcgraph.export(spec, tmp_path / f"{steps}.onnx").size
        weights = sum(v.numel() * 4 for k, v in bcgraph.compile(spec).named_parameters() if "bn" not in k)
        assert sizes[steps] > weights
    assert sizes[8] - sizes[2] < weights


@pytest.mark.parametrize("form", ["unrolled", "step", "scan"])
@pytest.mark.parametrize("fault", ["threshold"])
def test_a_file_that_computes_something_else_is_refused(
    form: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = network("tiny(width=4)").with_backward([(4, 0, 2)])
    state = lively(spec)
    emit = "to_scan" if form == "scan" else "to_onnx"
    real = getattr(onnx_file, emit)

    def broken(program: Any, weights: Any, *rest: Any) -> Any:
        if fault == "weight":
            weights = dict(weights)
            weights["layer1.0.conv1.weight"] = weights["layer1.0.conv1.weight"] * 1.5
        model = real(program, weights, *rest)
        for node in model.graph.all_nodes():
            if fault == "delay" and node.op_type == "Add" and node.inputs[1].name.startswith("backward"):
                node.replace_input_with(1, node.inputs[0])
        for function in model.functions.values() if fault == "threshold" else ():
            for node in function:
                if node.op_type == "Constant":
                    held = node.attributes["value_float"]
                    node.attributes["value_float"] = type(held)("value_float", held.type, 0.8 * held.value)
        return model

    monkeypatch.setattr(onnx_file, emit, broken)
    path = tmp_path / "net.onnx"
    with pytest.raises(CompileError) as caught:
        bcgraph.export(spec, path, state_dict=state, form=form, inputs=inputs(spec, 64))
    assert caught.value.code == "E075"
    assert not path.exists()


def test_what_cannot_be_said_is_refused_with_its_place(tmp_path: Path) -> None:
    spec = network("tiny(width=4)")
    with pytest.raises(CompileError) as caught:
        bcgraph.export(spec, tmp_path / "net.onxx")
    assert caught.value.code == "E072"
    assert ".onnx" in str(caught.value)
    with pytest.raises(CompileError) as caught:
        bcgraph.export(spec, tmp_path / "net.onnx", form="unroled")
    assert "unrolled" in str(caught.value)
    with pytest.raises(WeightsError) as caught_weights:
        bcgraph.export(spec, tmp_path / "net.onnx", state_dict={"conv1.weight": torch.zeros(1)})
    assert caught_weights.value.code == "E083"
    assert list(tmp_path.iterdir()) == []
