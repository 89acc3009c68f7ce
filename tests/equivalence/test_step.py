"""The step form, called once for each step with the states of the last, is the whole network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bcgraph import schema
from tests import neurons
from tests.equivalence.support import (
    GRADIENT,
    assert_close,
    assert_lively,
    assert_same_buffers,
    batch,
    build,
    chain,
    replace,
    small,
    state,
)
from tests.reference import Reference

BACKWARD = [(2, 0), (3, 1, 2), (3, 3, 3), (0, 0)]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("sequence", [False, True], ids=["static", "sequence"])
def test_goes_on_for_as_long_as_it_is_called(sequence: bool, training: bool) -> None:
    """A step knows nothing of T: 9 calls are 9 steps, whatever the specification says."""
    spec = small(steps=2, sequence=sequence, backward=BACKWARD)
    longer = replace(spec, steps=9)
    values = state(spec)
    step, reference = build(spec, "step", values).train(training), Reference(longer, values)
    x = batch(longer)
    output = chain(step, longer, x)
    assert_close(output, reference(x, training=training).output, "O")
    if training:
        assert_same_buffers(step, reference.buffers)


def test_running_statistics_of_a_connection_see_only_what_is_read() -> None:
    spec = small(steps=5, backward=BACKWARD)
    step = build(spec, "step", state(spec)).train()
    chain(step, spec, batch(spec))
    buffers = dict(step.named_buffers())
    counted = {n: int(b) - 5 for n, b in buffers.items() if n.endswith("num_batches_tracked")}
    assert counted["bn1.num_batches_tracked"] == 5
    assert counted["backward.2_0.bn.num_batches_tracked"] == 4
    assert counted["backward.3_1.bn.num_batches_tracked"] == 3
    assert counted["backward.3_3.bn.num_batches_tracked"] == 2
    assert counted["backward.0_0.bn.num_batches_tracked"] == 4


def test_states_start_at_zero_and_follow_the_batch() -> None:
    spec = small(steps=3, backward=BACKWARD)
    step = build(spec, "step", state(spec)).eval()
    for size in (1, 4):
        frame = batch(spec, size)
        states = step.initial_states(frame)
        assert isinstance(states, tuple)
        assert states
        assert all(isinstance(s, Tensor) and not s.any() and s.shape[0] == size for s in states)
        assert all(s.dtype in (torch.float64, torch.int64, torch.bool) for s in states)
        output, *following = step(frame, *states)
        assert output.shape == (size, 4)
        assert [s.shape for s in following] == [s.shape for s in states]
        assert [s.dtype for s in following] == [s.dtype for s in states]
        assert any(bool(s.any()) for s in following)
        assert all(not s.any() for s in states), "the states given are not written to"


def test_a_state_can_be_kept_and_resumed() -> None:
    """Stepping on from states that were saved gives what stepping through gave; a state belongs to its sample."""
    spec = small(steps=6, sequence=True, backward=BACKWARD)
    step = build(spec, "step", state(spec)).eval()
    x = batch(spec, 4)
    through = chain(step, spec, x)
    states = step.initial_states(x[0])
    for t in range(3):
        _, *states = step(x[t], *states)
    saved = [s.detach().clone() for s in states]
    for picked in ([0, 1, 2, 3], [2], [3, 0]):
        states = [s[picked] for s in saved]
        for t in range(3, 6):
            output, *states = step(x[t][picked], *states)
            assert_close(output, through[t][picked], f"O of step {t}")


def test_non_zero_states_feed_the_equations() -> None:
    """Any membranes, not only those a network reaches from zero: u = tau*v + I at every port."""
    neuron = neurons.lif(tau=0.5, reset="soft")
    spec = small(steps=1, neuron=neuron)
    values = state(spec)
    step = build(spec, "step", values).eval()
    frame = batch(spec)
    zero = step.initial_states(frame)
    generator = torch.Generator().manual_seed(1)
    membranes = [torch.randn(s.shape, generator=generator, dtype=torch.float64) for s in zero]
    assert [s.shape[1:] for s in zero] == [(4, 7, 7), (4, 7, 7), (6, 4, 4), (12,)], "one membrane a port, in order"

    reference = Reference(spec, values)
    trace = reference(frame, start=dict(enumerate(membranes)))
    output, *following = step(frame, *membranes)
    assert_close(output, trace.output[0], "O")
    for port, after in enumerate(following):
        assert_close(after, trace.membranes[port, 0] - trace.spikes[port, 0], f"v of port {port}")


def test_gradient_reaches_the_states() -> None:
    spec = small(steps=2, backward=[(2, 0)])
    step = build(spec, "step", state(spec)).eval()
    frame = batch(spec)
    states = [s.requires_grad_() for s in step.initial_states(frame)]
    output, *_ = step(frame, *states)
    output.sum().backward()
    reached = [s.grad is not None and bool(s.grad.any()) for s in states if s.is_floating_point()]
    assert any(reached)


@pytest.mark.parametrize(
    "neuron",
    [neurons.lif(), neurons.lif(reset="soft", threshold=0.8), neurons.lif(detach_reset=True)],
    ids=["hard", "soft", "detached"],
)
def test_gradient_leaves_by_the_states_alone(neuron: schema.Neuron) -> None:
    """A loss on what is handed to the next step, and not on O: no gradient comes from the last port's spikes."""
    spec = small(steps=1, neuron=neuron)
    values = state(spec)
    step, reference = build(spec, "step", values).eval(), Reference(spec, values)
    ours, theirs = batch(spec).requires_grad_(), batch(spec).requires_grad_()
    _, *following = step(ours, *step.initial_states(ours))
    (found,) = torch.autograd.grad(sum(v.square().sum() for v in following), ours)

    trace = reference(theirs)
    assert_lively(trace)
    loss = torch.zeros((), dtype=torch.float64)
    for (port, _), u in trace.membranes.items():
        s = trace.spikes[port, 0].detach() if neuron.argument("detach_reset") else trace.spikes[port, 0]
        loss = loss + (u - neuron.threshold * s if neuron.argument("reset") == "soft" else u * (1 - s)).square().sum()
    (wanted,) = torch.autograd.grad(loss, theirs)
    assert float((found - wanted).abs().max()) <= GRADIENT * float(wanted.abs().max())
