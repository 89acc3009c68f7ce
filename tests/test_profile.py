"""Costs against counts by hand, against the compiled network, and against measured spikes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bcgraph import data, dsl
from bcgraph.compiler import compile as compile_network
from bcgraph.firing import measure
from bcgraph.profile import ACCUMULATE, MULTIPLY_ACCUMULATE, profile, size
from bcgraph.schema import NetworkSpec
from tests import forked
from tests.training.nets import tiny

RESNET = "bcg 1\nnetwork n {{ input = image(3, 32, 32); steps = 4; backbone = {} }}"


def resnet(backbone: str = "resnet18(width=64, classes=10)") -> NetworkSpec:
    return dsl.parse(RESNET.format(backbone))


def test_resnet18_equals_the_count_by_hand() -> None:
    found = profile(resnet())
    assert found.parameters == 11_173_962
    # Stem, then two blocks a stage: 3x3 convolutions at 32, 16, 8 and 4 pixels, 1x1 where the shape changes, linear.
    stem = 3 * 64 * 9 * 32 * 32
    first = 4 * 64 * 64 * 9 * 32 * 32
    stage = (64 * 128 * 9 + 3 * 128 * 128 * 9 + 64 * 128) * 16 * 16
    assert found.operations == stem + first + 3 * stage + 512 * 10
    assert round(found.operations / 1e9, 4) == 0.5554
    assert len(found.ports) == 17


@pytest.mark.parametrize(
    "backbone",
    ["resnet18(width=8)", "resnet18(width=8, residual=false)", "resnet19(width=8)", "resnet34(width=8)", "vggsnn()"],
)
def test_parameters_equal_the_compiled_network(backbone: str) -> None:
    spec = resnet(backbone).with_backward([(5, 2), (3, 3, 2), (6, 0, 9)])
    model = compile_network(spec)
    found = profile(spec)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert size(spec) == (found.parameters, found.operations)


def test_projections_are_counted_at_the_smaller_resolution() -> None:
    spec = resnet().with_backward([(16, 0), (8, 8, 3), (2, 1, 9)])
    layers = {layer.name: layer for layer in profile(spec).layers if layer.kind == "backward"}
    assert layers["backward.16_0.conv"].operations == 512 * 64 * 4 * 4
    assert layers["backward.16_0.conv"].steps == 3
    assert layers["backward.8_8.conv"].operations == 128 * 128 * 16 * 16
    assert layers["backward.8_8.conv"].steps == 1
    assert layers["backward.2_1.conv"].steps == 0


def test_what_a_connection_costs() -> None:
    alone, spec = resnet(), resnet().with_backward([(16, 0), (8, 8, 3)])
    found, before = profile(spec), profile(alone)
    assert before.connections == ()
    late, own = found.connections[1], found.connections[0]
    assert (own.source, own.target, own.delay) == (8, 8, 3)
    assert (late.source, late.target, late.delay) == (16, 0, 1)
    # The projection, and weight and bias of its batch norm.
    assert late.parameters == 512 * 64 + 2 * 64
    assert own.parameters == 128 * 128 + 2 * 128
    assert found.parameters - before.parameters == late.parameters + own.parameters
    assert found.operations - before.operations == late.operations + own.operations
    for pair, cost in (((16, 0), late), ((8, 8, 3), own)):
        # Beside its values the step form keeps one flag for each step back.
        added = profile(alone.with_backward([pair])).state_values - before.state_values
        assert cost.state_values == added - cost.delay


def test_operations_by_step() -> None:
    spec = resnet().with_backward([(16, 0), (8, 8, 3)])
    found = profile(spec)
    late, own = 512 * 64 * 4 * 4, 128 * 128 * 16 * 16
    base = profile(resnet()).operations
    assert [cost.operations for cost in found.by_step()] == [base, base + late, base + late, base + late + own]
    assert all(cost.energy is None for cost in found.by_step())


def test_spikes_by_step() -> None:
    spec = dsl.parse(tiny()).with_backward([(4, 0, 2)])
    rates = {(port, t): 0.1 * port + 0.05 * t for port in range(5) for t in range(8)}
    found = profile(spec, rates)
    each = found.by_step()
    layers = {layer.name: layer for layer in found.layers}
    late = layers["backward.4_0.conv"]
    assert late.synaptic(found.rates, 1) == 0
    assert late.synaptic(found.rates, 5) == pytest.approx(late.operations * rates[(4, 3)])
    assert layers["layer1.0.conv2"].synaptic(found.rates, 5) == pytest.approx(16 * 16 * 9 * 8 * rates[(1, 5)])
    data = found.as_data()
    assert sum(cost.synaptic or 0 for cost in each) == pytest.approx(data["synaptic"])
    assert sum(cost.energy or 0 for cost in each) == pytest.approx(data["energy"])
    assert data["by_step"][5]["energy"] == each[5].energy
    assert data["backward"][0]["energy"] == pytest.approx(
        late.operations * ACCUMULATE * sum(rates[4, t] for t in range(6))
    )


@pytest.mark.parametrize("backward", [(), ((4, 0),), ((4, 0), (4, 2, 3), (1, 1))])
def test_states_are_those_of_the_step_form(backward: tuple[tuple[int, ...], ...]) -> None:
    spec = dsl.parse(tiny()).with_backward(backward)  # type: ignore[arg-type]
    step = compile_network(spec, schedule="step")
    states = step.initial_states(torch.zeros(1, 1, 1, 8))  # type: ignore[operator]
    assert profile(spec).state_values == sum(s.numel() for s in states)
    assert [state.values for state in profile(spec).states] == [s.numel() for s in states]
    assert profile(spec).state_values >= 16 * 8 * 3 + 32 * 4 * 2


def test_counting_needs_no_torch() -> None:
    program = (
        "import sys; from bcgraph import dsl; from bcgraph.profile import profile\n"
        "profile(dsl.parse('bcg 1\\nnetwork n { input = image(1, 8, 8); steps = 2; backbone = tiny() }'))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_who_reads_spikes() -> None:
    reads = {layer.name: layer.reads for layer in profile(resnet("resnet18(width=8)")).layers}
    assert reads["conv1"] is None
    assert reads["layer1.0.conv1"] == 0
    assert reads["layer1.0.conv2"] == 1
    assert reads["layer2.0.downsample.0"] == reads["layer2.0.conv1"] == 4
    assert reads["fc"] is None


def test_measured_rates_and_energy() -> None:
    spec = dsl.parse(tiny("backward @4 -> @0")).with_backward([(4, 0)])
    model = compile_network(spec)
    split = data.load(spec.data, spec.input, spec.steps).test
    rates = measure(model, split.batches(100))
    assert set(rates) == {(port, t) for port in range(5) for t in range(8)}
    assert all(0 <= rate <= 1 for rate in rates.values())
    assert any(0 < rate < 1 for rate in rates.values())
    whole = measure(model, split.batches(597))
    assert all(abs(rates[place] - whole[place]) < 0.01 for place in rates)
    found = profile(spec, rates)
    layers = {layer.name: layer for layer in found.layers}
    conv = layers["layer1.0.conv1"]
    expected = 16 * 16 * 9 * 8 * sum(rates[(0, t)] for t in range(8))
    assert conv.synaptic(found.rates) == pytest.approx(expected)
    assert found.energy(conv) == pytest.approx(expected * ACCUMULATE)
    assert found.energy(conv, accumulate=1.0) == pytest.approx(expected)
    assert found.energy(layers["conv1"]) == pytest.approx(16 * 9 * 8 * 8 * MULTIPLY_ACCUMULATE)
    late = layers["backward.4_0.conv"]
    assert late.synaptic(found.rates) == pytest.approx(late.operations * sum(rates[(4, t)] for t in range(7)))


def test_data_is_plain() -> None:
    spec = dsl.parse(tiny())
    counted = json.loads(json.dumps(profile(spec).as_data()))
    assert "energy" not in counted
    rates = {(port, t): 0.5 for port in range(5) for t in range(8)}
    measured = json.loads(json.dumps(profile(spec, rates).as_data()))
    assert measured["energy"] == pytest.approx(sum(layer["energy"] for layer in measured["layers"]))
    assert measured["parameters"] == counted["parameters"]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "bcgraph", "profile", *arguments]
    return forked.run(line, text=True)


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "net.bcg").write_text(tiny("backward @4 -> @0"))
    net = str(tmp_path / "net.bcg")
    shown = command(net, "--batches", "1", "--picture", str(tmp_path / "a.svg"))
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert any(line.split()[:3] == ["backward.4_0.conv", "@4", "(-1)"] for line in lines)
    assert any(line.split()[:6] == ["@4", "->", "@0", "1", "544", "2,048"] for line in lines)
    assert next(line.split() for line in lines if line.startswith("operations"))[1:3] == ["95,680", "97,728"]
    assert "uJ a sample" in lines[-2]
    assert (tmp_path / "a.svg").read_text().count("<svg") == 1
    dear = command(net, "--batches", "1", "--json", "--accumulate", "0", "--multiply-accumulate", "1")
    found = json.loads(dear.stdout)
    expected = sum(e["operations"] * e["steps"] for e in found["layers"] if e["reads"] is None) * 1e-12
    assert found["energy"] == pytest.approx(expected)
    counted = command(net, "--batches", "0", "--picture", str(tmp_path / "b.png"))
    assert counted.returncode == 0, counted.stderr
    assert "nJ" not in counted.stdout
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "net.bcg").write_text(tiny().replace("digits_rows(", f'cifar10dvs(root="{tmp_path}", '))
    assert "`--batches 0` counts" in command(net).stderr
    wrong = command(net, "--batches", "0", "--picture", str(tmp_path / "b.gif"))
    assert wrong.returncode == 1
    assert "E084" in wrong.stderr
    assert command(net, "--accumulate", "inf").returncode == 2


@pytest.mark.parametrize(("neuron", "counts"), [("ilif()", True), ("relu()", False)])
def test_numbers_are_multiplied_and_whole_numbers_accumulated(neuron: str, counts: bool) -> None:
    text = f"bcg 1\nnetwork n {{ input = image(1, 8, 8); steps = 3; neuron = {neuron}; backbone = tiny(width=4) }}"
    spec = dsl.parse(text).with_backward([(4, 0)])
    found = profile(spec, {(port, t): 1.5 for port in range(5) for t in range(3)})
    by_name = {layer.name: layer for layer in found.layers}
    for name, steps in (("layer1.0.conv1", 3), ("backward.4_0.conv", 2)):
        layer = by_name[name]
        assert (layer.reads is not None) == counts
        assert layer.synaptic(found.rates) == (1.5 * layer.operations * steps if counts else 0)


def test_what_connections_of_other_kinds_cost() -> None:
    """Each layer of a projection is counted where it stands; only a 1x1 convolution changes places with a resize."""
    block = (
        "block deep(channels) { a = conv(input.channels // 2, 1); bn1 = bn(); resize(nearest)\n"
        "b = conv(channels, 3) }\n"
    )
    lines = "backward @16 -> @0 { through = deep() }; forward @0 -> @1 { through = project(kernel=3); read = u }\n"
    text = (
        dsl.format_spec(resnet()).replace("network ", f"{block}network ", 1).replace("}\n\ndata", f"{lines}}}\n\ndata")
    )
    found = profile(dsl.parse(text))
    deep, ahead = found.connections
    assert [layer.operations for layer in deep.layers] == [512 * 256 * 4 * 4, 256 * 64 * 9 * 32 * 32]
    assert deep.parameters == 512 * 256 + 2 * 256 + 256 * 64 * 9
    assert (ahead.word, ahead.operations) == ("forward", 64 * 64 * 9 * 32 * 32)
    # What reads a membrane, or the numbers of another layer, pays for multiplications.
    assert [layer.reads for layer in (*deep.layers, *ahead.layers)] == [16, None, None]
    assert [each["kind"] for each in found.as_data()["forward"]] == ["forward"]


SEW = """
bcg 1

block sew(width=4) {
  conv1 = conv(width); bn1 = bn(); n1 = neuron()
  sum { branch { conv2 = conv(width); bn2 = bn(); n2 = neuron() }; branch { } }
  conv3 = conv(width); bn3 = bn(); n3 = neuron()
  flatten(); fc = linear(10)
}

network n { input = image(1, 8, 8); steps = 2; backbone = sew() }
"""


def test_a_layer_after_a_sum_of_spikes_is_charged_accumulates_of_whole_numbers() -> None:
    spec = dsl.parse(SEW)
    rates = {(port, t): 0.1 + 0.1 * port + 0.05 * t for port in range(3) for t in range(2)}
    found = profile(spec, rates)
    layers = {layer.name: layer for layer in found.layers}
    behind = layers["conv3"]
    assert behind.ports == (1, 0)
    operations = 4 * 4 * 9 * 64
    spikes = sum(rates[port, t] for port in (0, 1) for t in range(2))
    assert behind.synaptic(found.rates) == pytest.approx(operations * spikes)
    assert behind.synaptic(found.rates, 1) == pytest.approx(operations * (rates[0, 1] + rates[1, 1]))
    assert found.energy(behind) == pytest.approx(operations * spikes * ACCUMULATE)
    assert behind.sparsity(found.rates) == pytest.approx(1 - spikes / 2)
    assert layers["conv1"].sparsity(found.rates) is None
    assert next(entry for entry in found.as_data()["layers"] if entry["name"] == "conv3")["also"] == [0]
    # Only the image is read as numbers.
    assert [layer.name for layer in found.layers if not layer.ports] == ["conv1"]


def test_memory_traffic_is_a_weight_an_operation_and_the_states_twice_a_step() -> None:
    rates = {(port, t): 0.25 for port in range(3) for t in range(2)}
    found = profile(dsl.parse(SEW), rates)
    weights = sum(layer.synaptic(found.rates) for layer in found.layers) + 2 * 4 * 9 * 64
    assert found.words() == pytest.approx(weights + 2 * 3 * 4 * 64 * 2)


def test_show_profile_and_onnx_agree_on_operations(tmp_path: Path) -> None:
    import onnx

    from bcgraph.compiler.targets.export import export

    text = tiny("backward @4 -> @0; backward @2 -> @2 { delay = 3 }")
    path = tmp_path / "net.bcg"
    path.write_text(text)
    spec = dsl.parse(text)
    found = profile(spec)
    export(spec, tmp_path / "net.onnx", form="step")
    facts = {p.key: p.value for p in onnx.load(tmp_path / "net.onnx").metadata_props}
    shown = json.loads(
        forked.run([sys.executable, "-m", "bcgraph", "show", str(path), "--json"], check=True, text=True).stdout
    )
    assert int(facts["bcgraph.operations"]) == shown["operations"] == found.operations
    assert int(facts["bcgraph.parameters"]) == shown["parameters"] == found.parameters
