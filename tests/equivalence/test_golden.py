"""LIF layers and connections against values worked out by hand. All numbers are exact in binary."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bcgraph import schema
from tests import neurons
from tests.equivalence.support import SCHEDULES, build, execute, flatten, lif, network, replace, state
from tests.reference import Reference

# A current for each step, and u, s, v of each step. The second step ends exactly at the threshold.
CURRENTS = [0.75, 0.625, 0.75, 1.0, 2.0, -1.0]
HARD = {
    "u": [0.75, 1.0, 1.25, 1.0, 2.5, -1.0],
    "s": [0, 0, 1, 0, 1, 0],
    "v": [0.75, 1.0, 0.0, 1.0, 0.0, -1.0],
}
SOFT = {
    "u": [0.75, 1.0, 1.25, 1.125, 2.0625, -0.46875],
    "s": [0, 0, 1, 1, 1, 0],
    "v": [0.75, 1.0, 0.25, 0.125, 1.0625, -0.46875],
}
# tau 0.25, threshold 2, soft reset.
SLOW = {
    "u": [0.75, 0.8125, 0.953125, 1.23828125, 2.3095703125, -0.922607421875],
    "s": [0, 0, 0, 0, 1, 0],
    "v": [0.75, 0.8125, 0.953125, 1.23828125, 0.3095703125, -0.922607421875],
}
TRACES = [
    pytest.param(neurons.lif(), HARD, id="hard"),
    pytest.param(neurons.lif(detach_reset=True), HARD, id="hard-detached"),
    pytest.param(neurons.lif(reset="soft"), SOFT, id="soft"),
    pytest.param(neurons.lif(tau=0.25, threshold=2.0, reset="soft"), SLOW, id="slow"),
]


def neuron_alone(neuron: schema.Neuron, steps: int, backward: Any = ()) -> schema.NetworkSpec:
    """A network that is one neuron: its frame is its current, and its spike the output."""
    body = [lif("lif1", neuron), flatten()]
    return network(body, shape=(1, 1, 1), sequence=True, steps=steps, backward=backward)


def frames(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1, 1)


@pytest.mark.parametrize(("neuron", "trace"), TRACES)
def test_reference_trace(neuron: schema.Neuron, trace: dict[str, list[float]]) -> None:
    spec = neuron_alone(neuron, 6)
    found = Reference(spec, {})(frames(CURRENTS))
    assert [float(found.membranes[0, t]) for t in range(6)] == trace["u"]
    assert found.output.flatten().tolist() == trace["s"]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("neuron", "trace"), TRACES)
def test_trace(neuron: schema.Neuron, trace: dict[str, list[float]], schedule: str) -> None:
    spec = neuron_alone(neuron, 6)
    output, _ = execute(build(spec, schedule, {}), schedule, spec, frames(CURRENTS))
    assert output.flatten().tolist() == trace["s"]


@pytest.mark.parametrize(("neuron", "trace"), TRACES)
def test_membrane_is_the_state_of_a_step(neuron: schema.Neuron, trace: dict[str, list[float]]) -> None:
    spec = neuron_alone(neuron, 6)
    step = build(spec, "step", {})
    states = step.initial_states(frames(CURRENTS)[0])
    assert [s.abs().sum().item() for s in states] == [0.0]
    for t, current in enumerate(frames(CURRENTS)):
        spike, *states = step(current, *states)
        assert spike.shape == (1, 1)
        assert spike.item() == trace["s"][t]
        assert [s.item() for s in states] == [trace["v"][t]]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_exact_tie_does_not_fire(schedule: str) -> None:
    above, below = 1 + 2**-52, 1 - 2**-53
    spec = neuron_alone(neurons.lif(tau=0.0), 6)
    output, _ = execute(build(spec, schedule, {}), schedule, spec, frames([1.0, above, below, above, 1.0, 1.0]))
    assert output.flatten().tolist() == [0, 1, 0, 1, 0, 0]


# Two steps, I = [0.75, 0.875]. u0 = 0.75 with slope 0.75 and no spike; u1 = 1.25 with slope 0.75. ds1/dI0 is slope1 *
# tau * dv0/du0, where dv0/du0 is 1 - s0 - u0*slope0 (hard), 1 - slope0 (soft), and 1 where the reset is detached.
GRADIENTS = [
    (neurons.lif(), 0.75 * 0.5 * (1 - 0.75 * 0.75)),
    (neurons.lif(detach_reset=True), 0.75 * 0.5),
    (neurons.lif(reset="soft"), 0.75 * 0.5 * (1 - 0.75)),
    (neurons.lif(reset="soft", detach_reset=True), 0.75 * 0.5),
]


@pytest.mark.parametrize("schedule", [*SCHEDULES, "reference"])
@pytest.mark.parametrize(("neuron", "through"), GRADIENTS)
def test_gradient_through_the_reset(neuron: schema.Neuron, through: float, schedule: str) -> None:
    spec = neuron_alone(neuron, 2)
    x = frames([0.75, 0.875]).requires_grad_()
    if schedule == "reference":
        output = Reference(spec, {})(x).output
    else:
        output, _ = execute(build(spec, schedule, {}), schedule, spec, x)
    assert output.flatten().tolist() == [0, 1]
    output[1].sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [through, 0.75]


@pytest.mark.parametrize("schedule", [*SCHEDULES, "reference"])
def test_gradient_after_a_spike(schedule: str) -> None:
    """I = [1.5, 0.5]: u0 = 1.5 fires with slope 0.5, so a hard reset has dv0/du0 = 0 - 1.5*0.5; u1 = 0.5, slope 0.5."""
    spec = neuron_alone(neurons.lif(), 2)
    x = frames([1.5, 0.5]).requires_grad_()
    if schedule == "reference":
        output = Reference(spec, {})(x).output
    else:
        output, _ = execute(build(spec, schedule, {}), schedule, spec, x)
    assert output.flatten().tolist() == [1, 0]
    output[1].sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0.5 * 0.5 * -0.75, 0.5]


@pytest.mark.parametrize("schedule", [*SCHEDULES, "reference"])
@pytest.mark.parametrize("delay", [1, 2, 3])
def test_connection_adds_nothing_before_its_delay(delay: int, schedule: str) -> None:
    """A batch norm that maps 0 to 1.5 and 1 to 1.75: its bias fires the neuron, but not before step `delay`."""
    spec = neuron_alone(neurons.lif(tau=0.0), 5, backward=[(0, 0, delay)])
    spec = replace(spec, norm=schema.Norm(eps=0.25))
    name = "backward.0_0"
    values = {
        f"{name}.conv.weight": torch.ones(1, 1, 1, 1, dtype=torch.float64),
        f"{name}.bn.weight": torch.full((1,), 0.25, dtype=torch.float64),
        f"{name}.bn.bias": torch.full((1,), 2.0, dtype=torch.float64),
        f"{name}.bn.running_mean": torch.full((1,), 2.0, dtype=torch.float64),
        f"{name}.bn.running_var": torch.full((1,), 0.75, dtype=torch.float64),
        f"{name}.bn.num_batches_tracked": torch.tensor(7),
    }
    assert set(values) == set(state(spec))
    x = frames([0.0] * 5)
    if schedule == "reference":
        output = Reference(spec, values)(x).output
    else:
        output, _ = execute(build(spec, schedule, values).eval(), schedule, spec, x)
    assert output.flatten().tolist() == [0.0] * delay + [1.0] * (5 - delay)
