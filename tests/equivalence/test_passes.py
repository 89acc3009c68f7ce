"""Passes change how a network is computed and never what it computes: alone, in any pair, and for inference."""

from __future__ import annotations

import itertools

import pytest
import torch

from bcgraph import schema
from bcgraph.compiler.passes import PASSES
from bcgraph.compiler.targets.fx import module
from bcgraph.errors import CompileError
from bcgraph.keys import rng
from tests.equivalence.support import (
    SCHEDULES,
    assert_close,
    assert_lively,
    assert_same_buffers,
    assert_same_gradients,
    average,
    batch,
    bn,
    build,
    compare,
    conv,
    execute,
    flatten,
    lif,
    linear,
    network,
    small,
    state,
    unchanged,
)
from tests.reference import Reference

BACKWARD = [(2, 0), (3, 1, 2), (3, 3), (1, 0, 3)]
# All but the one that rounds weights, which tests/compiler/test_int16.py judges, leave every number as it is.
EXACT = sorted(set(PASSES) - {"round_weights"})
TRAINING = [name for name in EXACT if not PASSES[name].inference_only]
INFERENCE = [name for name in EXACT if PASSES[name].inference_only]

# For connections of every kind: enlarged by a whole ratio (8x8 from 4x4 and from 1x1), and between equal sizes.
BODY = (
    conv("conv1", 4, bias=True),
    bn("bn1"),
    lif("lif1"),
    schema.Sum(name="sum", branches=((), (conv("conv2", 4), lif("inner")))),
    conv("conv3", 6, stride=2),
    bn("bn3"),
    lif("lif2"),
    average("pool", 2),
    flatten(),
    linear("fc1", 12),
    bn("bn4"),
    lif("lif3"),
    linear("fc2", 4),
)


def whole(steps: int = 4, sequence: bool = False) -> schema.NetworkSpec:
    return network(BODY, shape=(2, 8, 8), steps=steps, sequence=sequence, backward=BACKWARD)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", EXACT)
def test_each_alone(name: str, schedule: str) -> None:
    frozen = name in INFERENCE
    for training in (False,) if frozen else (False, True):
        for sequence in (False, True):
            compare(whole(sequence=sequence), schedule, training=training, optimize=[name], inference=frozen)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("night", [False, pytest.param(True, marks=pytest.mark.nightly)], ids=["day", "night"])
def test_any_two_in_any_order(schedule: str, night: bool) -> None:
    """Schedules take a graph after its passes: by day each pair meets one of them."""
    pairs = list(itertools.permutations(EXACT, 2))
    for pair in pairs if night else pairs[SCHEDULES.index(schedule) :: len(SCHEDULES)]:
        frozen = not set(INFERENCE).isdisjoint(pair)
        compare(whole(3), schedule, training=not frozen, optimize=list(pair), inference=frozen)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("number", [15, pytest.param(60, marks=pytest.mark.nightly)])
def test_all_in_any_order(schedule: str, number: int) -> None:
    # Every pair was tried above; of all orders at once, some of each pipeline, drawn by a key.
    draw = rng(0, "orders", schedule)
    for _ in range(number):
        order = draw.sample(TRAINING, len(TRAINING))
        compare(whole(3), schedule, training=True, optimize=order)
        order = draw.sample(EXACT, len(EXACT))
        compare(whole(3), schedule, training=False, optimize=order, inference=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sequence", [False, True], ids=["static", "sequence"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_inference(steps: int, sequence: bool, schedule: str) -> None:
    """Folded norms give the same network; gradients flow as well."""
    compare(whole(steps, sequence), schedule, training=False, inference=True)
    compare(small(steps=steps, sequence=sequence, backward=BACKWARD), schedule, training=False, inference=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_inference_follows_new_weights(schedule: str) -> None:
    """What is folded is folded at each call: weights and running statistics loaded later count."""
    spec = whole()
    model = build(spec, schedule, state(spec), inference=True)
    x = batch(spec)
    execute(model, schedule, spec, x)
    later = state(spec, seed=9)
    model.load_state_dict(later)
    with torch.no_grad():
        output, _ = execute(model, schedule, spec, x)
    assert_close(output, Reference(spec, later)(x).output.detach(), "O")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_inference_does_not_pretend_to_train(schedule: str) -> None:
    """Norms that are folded away have no batch statistics: neither training nor scoring gets other numbers quietly."""
    spec = whole()
    model = build(spec, schedule, state(spec), inference=True)
    assert not any(module.training for module in model.modules())
    with unchanged(model):
        with pytest.raises(CompileError) as caught:
            model.train()
        assert caught.value.code == "E072"
        with pytest.raises(CompileError) as caught, module.batch_statistics(model):
            pass
        assert caught.value.code == "E072"
    assert not any(module.training for module in model.modules())
    assert model.train(False) is model


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_recomputing(steps: int, training: bool) -> None:
    """Steps that run again for the backward pass count once, and give the gradients of the first run."""
    for sequence in (False, True):
        spec = small(steps=steps, sequence=sequence, backward=[*BACKWARD, (0, 0, 5)])
        values = state(spec)
        model = build(spec, "unrolled", values, recompute=True).train(training)
        reference = Reference(spec, values)
        for turn in range(2):
            ours, theirs = (batch(spec, 3, turn).requires_grad_() for _ in range(2))
            output, trace = model(ours).cpu(), reference(theirs, training=training)
            assert_lively(trace)
            assert_close(output, trace.output, "O")
            model.zero_grad(set_to_none=True)
            reference.zero_grad()
            output.square().sum().backward()
            trace.output.square().sum().backward()
            assert_same_gradients(model, reference, ours, theirs)
            assert_same_buffers(model, reference.buffers)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_sample_of_a_vector_has_a_variance_where_it_is_enlarged(schedule: str) -> None:
    """Training on a single sample: a vector's projection onto an image is many values, though all are equal."""
    compare(small(steps=3, backward=[(3, 0), (3, 2, 2)]), schedule, training=True, size=1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_convolutions_that_others_read_too(schedule: str) -> None:
    """A norm must not be folded into a convolution that someone reads without it, or behind another norm."""
    body = [
        conv("conv1", 3),
        schema.Sum(name="sum1", branches=((), (bn("bn1"),))),
        lif("lif1"),
        conv("conv2", 3, bias=True),
        schema.Concat(name="cat", branches=((bn("bn2"),), (bn("bn3"), lif("inner")))),
        bn("bn4"),
        lif("lif2"),
        flatten(),
        linear("fc", 3),
    ]
    spec = network(body, shape=(2, 6, 6), steps=4, backward=[(2, 0), (1, 1)])
    compare(spec, schedule, training=True)
    compare(spec, schedule, training=False, inference=True)


@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if s != "step"])
def test_inference_with_statistics_for_each_step(schedule: str) -> None:
    """Such norms are not the same at each step and stay what they are, on a static image too."""
    spec = small(steps=4, norm=schema.Norm(statistics="per_step"), backward=BACKWARD)
    compare(spec, schedule, training=False, inference=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_norms_straight_on_the_input(schedule: str) -> None:
    """A static image's own batch norm is computed once and counts T times."""
    norm = schema.Norm(momentum=0.3)
    body = [
        bn("bn0", norm),
        schema.Concat(name="cat", branches=((), (conv("conv", 3), bn("bn1", norm)))),
        bn("bn2", norm),
        lif("lif"),
        flatten(),
        linear("fc", 3),
    ]
    for steps in (1, 2, 5):
        for sequence in (False, True):
            spec = network(body, shape=(2, 5, 5), steps=steps, sequence=sequence, backward=[(0, 0)], norm=norm)
            compare(spec, schedule, training=True)
