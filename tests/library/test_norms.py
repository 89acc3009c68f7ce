"""Norms by name: `tdbn` starts from the threshold, `tebn` has a scale for each step; in every schedule and target."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph import dsl, profile, schema
from bcgraph.errors import CompileError, SpecError
from tests.equivalence import support
from tests.equivalence.support import GRADIENT, OUTPUT, compare
from tests.library.plain import LibraryReference
from tests.targets.test_onnx import chained, run

TEBN = {
    "shared": schema.Norm(scales="per_step"),
    "per-step": schema.Norm(scales="per_step", statistics="per_step", momentum=0.3),
}
BACKWARD = ((1, 0), (2, 2, 2), (3, 1))
MODES: list[tuple[bool, dict[str, Any]]] = [
    (True, {}),
    (True, {"optimize": ()}),
    (False, {}),
    (False, {"inference": True}),
]


def tebn(name: str) -> tuple[schema.NetworkSpec, dict[str, Tensor]]:
    """A network of these norms, its connections' included, with values for all parameters."""
    spec = support.small(steps=4, norm=TEBN[name], backward=BACKWARD)
    values = support.state(spec)
    for norm in [k.removesuffix(".running_mean") for k in values if k.endswith(".running_mean")]:
        drawn = torch.rand(spec.steps, generator=support.generator("p", norm), dtype=torch.float64)
        values[f"{norm}.p"] = 0.5 + drawn
    return spec, values


def stepwise(spec: schema.NetworkSpec, values: dict[str, Tensor]) -> torch.fx.GraphModule:
    model = bcgraph.compile(spec, schedule="step", dtype=torch.float64)
    model.load_state_dict(values)
    return model


def written(line: str, *layers: str, neuron: str = "lif(threshold=0.6)") -> schema.NetworkSpec:
    body = "; ".join(("c = conv(4)", *layers, "l = neuron()", "flatten()", "fc = linear(3)"))
    return bcgraph.parse(
        f"bcg 1\nblock body() {{ {body} }}\n"
        f"network n {{ input = image(2, 6, 6); steps = 3; neuron = {neuron}; {line} backbone = body() }}\n"
    )


def norms(spec: schema.NetworkSpec) -> list[schema.Norm]:
    return [n.norm for n in schema.walk(spec.backbone.body) if isinstance(n, schema.BatchNorm)]


# --- tebn -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", support.SCHEDULES)
@pytest.mark.parametrize("name", TEBN)
def test_tebn(name: str, schedule: str) -> None:
    spec, values = tebn(name)
    for training, options in MODES:
        compare(spec, schedule, training=training, values=values, judge=LibraryReference, **options)


@pytest.mark.parametrize(
    ("ending", "form"),
    [(".onnx", "unrolled"), (".onnx", "step"), (".onnx", "scan"), (".py", "unrolled"), (".c", "step")],
)
@pytest.mark.parametrize("name", TEBN)
def test_tebn_in_files(name: str, ending: str, form: str, tmp_path: Path) -> None:
    spec, values = tebn(name)
    x = support.batch(spec, 16)
    path = tmp_path / f"net{ending}"
    done = bcgraph.export(spec, path, state_dict=values, inputs=x.float(), form=form)
    if ending == ".c":
        # It was compiled and run, and compared with the program of one step.
        assert done.proof is not None
        assert done.proof.differing_spikes <= 0.01
        return
    with torch.no_grad():
        expected = LibraryReference(spec, values)(x).output
    if ending == ".py":
        got = runpy.run_path(str(path))["load"]()(x.float()).detach().double()
    elif form == "step":
        got = torch.from_numpy(chained(path, spec, x.float())).double()
    else:
        got = torch.from_numpy(run(path, x.float().numpy())[0]).double()
    assert float(torch.isclose(got, expected, rtol=1e-4, atol=1e-4).all(2).all(0).double().mean()) >= 0.9


@pytest.mark.parametrize("name", TEBN)
def test_samples_that_are_in_different_steps(name: str) -> None:
    """States of zero are the beginning of a sample's time, whatever step the others of the batch are in."""
    spec, values = tebn(name)
    model = stepwise(spec, values).eval()
    x = support.batch(spec, 2)
    with torch.no_grad():
        expected = LibraryReference(spec, values)(x).output
        first, *states = model(x, *model.initial_states(x))
        begun = model.initial_states(x)
        for state, zero in zip(states, begun, strict=True):
            state[1] = zero[1]
        got, *_ = model(x, *states)
    assert torch.allclose(got, torch.stack([expected[1, 0], expected[0, 1]]), rtol=0, atol=OUTPUT)
    assert torch.allclose(first, expected[0], rtol=0, atol=OUTPUT)


@pytest.mark.parametrize("name", TEBN)
def test_a_stream_that_is_longer_goes_on_as_in_the_last_step(name: str, tmp_path: Path) -> None:
    spec, values = tebn(name)
    longer, held = support.replace(spec, steps=7), dict(values)
    for key, value in values.items():
        part = key.rpartition(".")[2]
        if part == "p" or (name == "per-step" and part in ("running_mean", "running_var", "num_batches_tracked")):
            held[key] = torch.cat([value, value[-1:].expand(3, *value.shape[1:])])
    x = support.batch(spec, 4)
    model = stepwise(spec, values).eval()
    with torch.no_grad():
        expected = LibraryReference(longer, held)(x).output
        states, got = model.initial_states(x), []
        for _ in range(7):
            output, *states = model(x, *states)
            got.append(output)
    assert torch.allclose(torch.stack(got), expected, rtol=0, atol=OUTPUT)
    assert not torch.equal(expected[6], expected[3])
    bcgraph.export(spec, tmp_path / "net.onnx", state_dict=values, inputs=x.float(), form="step")
    found = torch.from_numpy(chained(tmp_path / "net.onnx", longer, x.float())).double()
    assert float(torch.isclose(found, expected, rtol=1e-4, atol=1e-4).all(2).all(0).double().mean()) >= 0.7


def test_batch_statistics_for_each_step_want_one_step() -> None:
    spec, values = tebn("per-step")
    model = stepwise(spec, values).train()
    x = support.batch(spec, 3)
    _, *states = model(x, *model.initial_states(x))
    states[0][1] = 0
    with pytest.raises(ValueError, match="all in the same step"):
        model(x, *states)


def test_nir_cannot_tell_steps_apart(tmp_path: Path) -> None:
    spec = written("norm = tebn();", "b = bn()")
    with pytest.raises(CompileError) as caught:
        bcgraph.export(spec, tmp_path / "net.nir")
    (found,) = caught.value.diagnostics
    assert found.code == "E073"
    assert "`b` has a scale for each step, which one step cannot tell apart" in found.message
    assert found.span is not None
    assert not list(tmp_path.iterdir())


# --- In the language --------------------------------------------------------------------------------------


def test_what_the_names_mean() -> None:
    assert norms(written("norm = tdbn(alpha=0.5);", "b = bn()")) == [schema.Norm(gain=0.3)]
    assert norms(written("norm = tdbn;", "b = bn(eps=0.1)")) == [schema.Norm(gain=0.6, eps=0.1)]
    assert norms(written("norm = tebn(momentum=0.2);", "b = bn()")) == [schema.Norm(momentum=0.2, scales="per_step")]
    assert norms(written("", "b = tdbn(0.5)", "d = tebn()", "e = bn()")) == [
        schema.Norm(gain=0.3),
        schema.Norm(scales="per_step"),
        schema.Norm(),
    ]
    # A named norm does not inherit what the other is about.
    assert norms(written("norm = tebn();", "b = tdbn()")) == [schema.Norm(gain=0.6)]
    assert norms(written("norm = tdbn();", "b = tebn()")) == [schema.Norm(scales="per_step")]


@pytest.mark.parametrize("line", ["norm = tdbn(alpha=0.5);", "norm = tebn();"])
def test_the_canonical_text_means_the_same(line: str) -> None:
    spec = written(line, "b = bn()", "d = tebn()")
    assert dsl.parse(dsl.format_spec(spec)) == spec


def test_networks_without_them_are_what_they_were() -> None:
    """Weights and histories are kept by this digest, which is that of the version before."""
    spec = written("norm = bn(gain=0.5);", "b = bn()")
    assert spec.backbone.digest == "e65529c09e4ad4244f16cafb689945474301877e25c82105b13da5b8a0caae77"
    assert "scales" not in dsl.format_spec(spec)


def test_what_is_counted() -> None:
    spec, values = tebn("shared")
    trained = sum(v.numel() for v in bcgraph.compile(spec).parameters())
    assert profile.profile(spec).parameters == trained
    assert trained == sum(v.numel() for k, v in values.items() if "running" not in k and "tracked" not in k)


def test_a_block_of_an_older_file_may_have_the_name() -> None:
    spec = bcgraph.parse(
        "bcg 1\nblock tdbn(n) { c = conv(n); l = lif() }\nblock body() { t = tdbn(4); flatten(); fc = linear(3) }\n"
        "network n { input = image(2, 6, 6); steps = 3; backbone = body() }\n"
    )
    assert spec.ports == ("t.l",)


@pytest.mark.parametrize(("line", "layer"), [("norm = tdbn();", "b = bn()"), ("", "b = tdbn()")])
def test_a_neuron_without_a_threshold(line: str, layer: str) -> None:
    with pytest.raises(SpecError) as caught:
        written(line, layer, neuron="relu()")
    (found,) = caught.value.diagnostics
    assert (found.code, found.message) == (
        "E044",
        "`tdbn` needs a threshold, and the network's neuron `relu` has none",
    )
    assert found.excerpt is not None
    assert found.span is not None
    assert found.excerpt[found.span.column - 1 :].startswith("tdbn")


# --- Against SpikingJelly ---------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["tdbn", "tebn"])
def test_norms_of_spikingjelly(name: str, training: bool) -> None:
    """In training with one step: their statistics are those of all steps at once, ours of each on its own."""
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    steps = 1 if training else 3
    spec = bcgraph.parse(
        f"bcg 1\nblock body() {{ b = {name}(); flatten(); n = relu(); fc = linear(4, bias=false) }}\n"
        f"network n {{ input = sequence(4, 1, 1); steps = {steps}; neuron = lif(threshold=0.6); backbone = body() }}\n"
    )
    model = bcgraph.compile(spec, dtype=torch.float64).train(training)
    theirs = (
        layer.ThresholdDependentBatchNorm2d(1.0, 0.6, 4)
        if name == "tdbn"
        else layer.TemporalEffectiveBatchNorm2d(steps, 4)
    )
    theirs = theirs.double().train(training)
    assert torch.equal(model.get_parameter("b.weight").float(), theirs.weight.float())
    with torch.no_grad():
        model.get_parameter("fc.weight").copy_(torch.eye(4))
        for parameter, other in ((model.get_parameter("b.bias"), theirs.bias),):
            other.fill_(0.1)
            parameter.copy_(other)
        for buffer in ("running_mean", "running_var"):
            theirs.get_buffer(buffer).fill_(0.7)
            model.get_buffer(f"b.{buffer}").copy_(theirs.get_buffer(buffer))
        if name == "tebn":
            theirs.scale.copy_(torch.linspace(0.5, 1.5, steps))
            model.get_parameter("b.p").copy_(theirs.scale.flatten())
    x = torch.randn(steps, 5, 4, 1, 1, generator=support.generator("norms"), dtype=torch.float64)
    ours, expected = model(x), theirs(x).flatten(2).relu()
    assert float((ours - expected).abs().max()) <= max(OUTPUT, 1e-7 if name == "tdbn" else 0.0)
    ours.square().sum().backward()
    expected.square().sum().backward()
    pairs = [(model.get_parameter("b.weight"), theirs.weight), (model.get_parameter("b.bias"), theirs.bias)]
    pairs += [(model.get_parameter("b.p"), theirs.scale)] if name == "tebn" else []
    for mine, other in pairs:
        assert mine.grad is not None
        assert float((mine.grad - other.grad.flatten()).abs().max()) <= GRADIENT * float(other.grad.abs().max())
    assert torch.allclose(model.get_buffer("b.running_mean"), theirs.running_mean, atol=OUTPUT)
