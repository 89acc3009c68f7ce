"""`bcgraph.record`: spikes, membranes and currents by port, judged by the reference in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph import dsl, schema
from bcgraph.compiler.targets.fx.module import spikes
from bcgraph.compiler.targets.fx.record import record
from bcgraph.errors import CompileError
from tests import neurons
from tests.equivalence.support import OUTPUT, batch, build, small, state
from tests.reference import Reference, Trace

BACKWARD = ((3, 0), (2, 2), (1, 0, 2))
EVERY = ("s", "u", "v", "I")


def network(reset: Any = "hard", *, sequence: bool = False, **options: Any) -> schema.NetworkSpec:
    neuron = neurons.lif(tau=0.7, threshold=0.8, reset=reset)
    return small(neuron=neuron, sequence=sequence, backward=BACKWARD, steps=4, **options)


def of_ports(spec: schema.NetworkSpec) -> list[schema.Neuron]:
    return [n.neuron for n in schema.walk(spec.backbone.body) if isinstance(n, schema.NeuronLayer)]


def expected(trace: Trace, spec: schema.NetworkSpec, port: int) -> dict[str, Tensor]:
    u, s, current = (
        torch.stack([found[port, t] for t in range(spec.steps)])
        for found in (trace.membranes, trace.spikes, trace.currents)
    )
    neuron = of_ports(spec)[port]
    v = u * (1 - s) if neuron.argument("reset") == "hard" else u - neuron.threshold * s
    return {"s": s, "u": u, "v": v, "I": current}


def judge(spec: schema.NetworkSpec, found: dict[str, dict[str, Tensor]], trace: Trace) -> None:
    assert list(found) == list(spec.ports)
    for port, name in enumerate(spec.ports):
        theirs = expected(trace, spec, port)
        assert list(found[name]) == list(EVERY)
        assert torch.equal(found[name]["s"], theirs["s"])
        torch.testing.assert_close(found[name], {value: theirs[value] for value in EVERY}, atol=OUTPUT, rtol=0)


@pytest.mark.parametrize("options", [{}, {"optimize": ()}, {"inference": True}], ids=["fused", "single", "inference"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
def test_every_value_is_that_of_the_equations(
    schedule: str, sequence: bool, reset: str, options: dict[str, Any]
) -> None:
    spec = network(reset, sequence=sequence)
    values, x = state(spec), batch(spec, 4)
    model = build(spec, schedule, values, **options)
    for training in (False,) if options.get("inference") else (False, True):
        model = model.train(training)
        with torch.no_grad():
            trace = Reference(spec, values)(x, training=training)
        for gradients in (False, True):
            with torch.set_grad_enabled(gradients):
                judge(spec, record(model, x, values=EVERY), trace)


TEXT = """bcg 1
network n {
  input = image(1, 8, 8); steps = 3; backbone = tiny(width=32, classes=10)
  backward @4 -> @0; backward @2 -> @2
}
"""


def compiled(schedule: str = "unrolled", **options: Any) -> Any:
    return bcgraph.compile(bcgraph.parse(TEXT), schedule, **options)


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_spikes_are_those_of_the_call(schedule: str, inference: bool, dtype: torch.dtype) -> None:
    model = compiled(schedule, inference=inference, dtype=dtype).eval()
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        output = model(x).clone()
        found = record(model, x, values=EVERY)
        again, plain = spikes(model, x)
        assert torch.equal(model(x), output)
    assert torch.equal(again, output)
    for (port, step), s in plain.items():
        assert torch.equal(found[f"{bcgraph.parse(TEXT).ports[port]}"]["s"][step], s)
    assert found["lif1"]["s"].any()
    for values in found.values():
        assert {v.dtype for v in values.values()} == {dtype}
        # The spikes follow from the membranes that are recorded.
        assert torch.equal((values["u"] > 1.0).to(dtype), values["s"])


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
def test_running_statistics_stay(schedule: str) -> None:
    model = compiled(schedule).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    record(model, torch.randn(4, 1, 8, 8))
    assert model.training
    torch.testing.assert_close(dict(model.state_dict()), before, atol=0, rtol=0)


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
def test_the_gradient_is_that_of_the_reference(schedule: str) -> None:
    spec = network()
    values, x = state(spec), batch(spec, 4)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = record(build(spec, schedule, values).eval(), ours, ports="lif2", values=("u", "I"))
    trace = Reference(spec, values)(theirs)
    for value, other in (("u", trace.membranes), ("I", trace.currents)):
        (one,) = torch.autograd.grad(found["lif2"][value].sum(), ours, retain_graph=True)
        loss = torch.stack([other[3, t] for t in range(4)]).sum()
        (two,) = torch.autograd.grad(loss, theirs, retain_graph=True)
        assert float(two.abs().sum()) > 0
        torch.testing.assert_close(one, two, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
@pytest.mark.parametrize("name", ["lif", "plif", "alif", "cuba", "ilif"])
def test_single_equations_say_what_a_fused_neuron_says(name: str, schedule: str) -> None:
    """At the first step one value may stand for another, and for the current, over several equations: `cuba`."""
    spec = small(neuron=dsl.neuron(name), backward=BACKWARD, steps=4)
    every = ["I", *(value for value, _ in of_ports(spec)[0].equations.body)]
    models = [
        bcgraph.compile(spec, schedule, dtype=torch.float64, seed=1, **options) for options in ({}, {"optimize": ()})
    ]
    found = [record(model, batch(spec, 4), values=every) for model in models]
    torch.testing.assert_close(found[0], found[1], atol=OUTPUT, rtol=0)


def test_ports_and_values_are_chosen() -> None:
    model, x = compiled(), torch.randn(2, 1, 8, 8)
    found = record(model, x, ports=["layer1.0.lif2", 0], values=["v", "s"])
    assert {name: list(values) for name, values in found.items()} == {
        "layer1.0.lif2": ["v", "s"],
        "lif1": ["v", "s"],
    }
    assert found["lif1"]["v"].shape == (3, 2, 32, 8, 8)
    assert list(record(model, x, ports=4)) == ["layer2.0.lif2"]
    assert list(record(model, x)["lif1"]) == ["s"]


@pytest.mark.parametrize(
    ("code", "hint", "ask"),
    [
        ("E060", "did you mean `lif1`?", {"ports": ["lif"]}),
        ("E060", "numbered 0 to 4", {"ports": [5]}),
        ("E060", "numbered 0 to 4", {"ports": -1}),
        ("E072", "known: `I`, `u`, `s`, `v`", {"values": ["w"]}),
    ],
)
def test_what_is_unknown_is_named(code: str, hint: str, ask: dict[str, Any]) -> None:
    with pytest.raises(CompileError) as caught:
        record(compiled(), torch.randn(2, 1, 8, 8), **ask)
    assert caught.value.code == code
    assert hint in str(caught.value.hint)


def test_what_cannot_be_recorded_says_so() -> None:
    x = torch.randn(2, 1, 8, 8)
    refused: list[Any] = [compiled("step"), compiled(recompute=True), torch.fx.symbolic_trace(torch.nn.Identity())]
    for model in refused:
        with pytest.raises(CompileError) as caught:
            record(model, x, values=EVERY)
        assert caught.value.code == "E072"
        assert caught.value.hint
