"""Every schedule computes what the equations say: outputs, spikes, gradients and running statistics, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bcgraph import schema
from tests import neurons
from tests.equivalence.support import (
    SCHEDULES,
    assert_close,
    assert_lively,
    average,
    batch,
    bn,
    build,
    compare,
    compare_pass,
    conv,
    execute,
    flatten,
    lif,
    linear,
    network,
    replace,
    small,
    state,
)
from tests.reference import Reference

CONNECTIONS = {
    "none": [],
    "self": [(0, 0)],
    "self-each": [(0, 0), (1, 1), (2, 2), (3, 3)],
    "up": [(2, 0)],
    "long": [(3, 0)],
    "two-on-one-port": [(2, 0), (1, 0, 2)],
    "all-on-one-port": [(0, 0, 2), (1, 0), (2, 0, 3), (3, 0)],
    "crossing": [(2, 0), (3, 1, 2), (3, 3)],
    "delays": [(2, 0, 3), (2, 1, 2), (2, 2, 1)],
    "one-source": [(3, 0, 3), (3, 1), (3, 2, 2), (3, 3)],
    "all": [(j, i, 1 + (i + j) % 3) for j in range(4) for i in range(j + 1)],
    "never-read": [(3, 0, 5), (2, 1, 9), (0, 0)],
}

pytestmark = pytest.mark.parametrize("schedule", SCHEDULES)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("backward", CONNECTIONS.values(), ids=CONNECTIONS)
def test_connections(backward: list[tuple[int, ...]], training: bool, schedule: str) -> None:
    compare(small(steps=5, backward=backward), schedule, training=training)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("sequence", [False, True], ids=["static", "sequence"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_steps(steps: int, sequence: bool, training: bool, schedule: str) -> None:
    spec = small(steps=steps, sequence=sequence, backward=[(2, 0), (3, 1, 2), (0, 0, 3)])
    compare(spec, schedule, training=training)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "neuron",
    [
        neurons.lif(reset="soft"),
        neurons.lif(detach_reset=True),
        neurons.lif(reset="soft", detach_reset=True),
        neurons.lif(tau=0.0),
        neurons.lif(tau=1.0, threshold=2.5),
        neurons.lif(tau=0.3, threshold=0.7, width=2.0),
        neurons.lif(width=0.25),
    ],
    ids=["soft", "detached", "soft-detached", "no-leak-in", "integrator", "wide", "narrow"],
)
def test_neurons(neuron: schema.Neuron, training: bool, schedule: str) -> None:
    compare(small(steps=4, neuron=neuron, backward=[(2, 0), (3, 3, 2)]), schedule, training=training)


def test_neurons_of_their_own(schedule: str) -> None:
    """Each LIF layer has its own constants."""
    kinds = [
        neurons.lif(),
        neurons.lif(tau=0.9, threshold=1.5, reset="soft"),
        neurons.lif(tau=0.2, detach_reset=True, width=0.5),
    ]
    body: list[Any] = []
    for n, neuron in enumerate(kinds):
        body += [conv(f"conv{n}", 4), bn(f"bn{n}"), lif(f"lif{n}", neuron)]
    body += [average(), flatten(), linear("fc", 3)]
    compare(network(body, steps=4, backward=[(2, 0), (1, 1)]), schedule, training=True)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "norm",
    [
        schema.Norm(statistics="per_step"),
        schema.Norm(eps=0.1, momentum=0.5),
        schema.Norm(momentum=0.0),
        schema.Norm(momentum=1.0),
        schema.Norm(statistics="per_step", momentum=0.3, eps=1e-3),
    ],
    ids=["per-step", "large-eps", "frozen", "last-batch", "per-step-momentum"],
)
def test_batch_norms(norm: schema.Norm, training: bool, schedule: str) -> None:
    spec = small(steps=4, norm=norm, backward=[(2, 0), (3, 2, 2), (1, 1)])
    compare(spec, schedule, training=training)


def test_norm_of_connections_is_that_of_the_network(schedule: str) -> None:
    """A layer may have a norm of its own; connections take the network's."""
    own = schema.Norm(eps=1e-2)
    for general in (schema.Norm(momentum=0.4), schema.Norm(momentum=0.4, statistics="per_step")):
        spec = replace(small(steps=4, norm=own, backward=[(2, 0), (1, 1)]), norm=general)
        compare(spec, schedule, training=True)
        compare(spec, schedule, training=False)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("sequence", [False, True], ids=["static", "sequence"])
def test_every_layer(sequence: bool, training: bool, schedule: str) -> None:
    """All kinds of layers and their settings, branches inside branches, ports inside branches."""
    inner = schema.Concat(
        name="cat",
        branches=(
            (),
            (conv("b1", 3, kernel=1, bias=True), bn("b1bn"), lif("b1lif")),
            (pool_same("b2pool"), conv("b2", 2, kernel=3, dilation=2, padding=2)),
        ),
    )
    body = [
        bn("bn0"),
        conv("conv1", 6, groups=2, bias=True),
        bn("bn1"),
        lif("lif1"),
        schema.Sum(
            name="outer",
            branches=(
                (),
                (inner, bn("mixbn"), lif("mix"), conv("back", 6, kernel=1)),
                (conv("c1", 6, groups=6), lif("clif")),
            ),
        ),
        schema.Pool(name="max", kind="maxpool", kernel=3, stride=2, padding=1),
        bn("bn2"),
        lif("lif2"),
        schema.AdaptivePool(name="amax", kind="adaptive_maxpool", size=3),
        schema.AdaptivePool(name="aavg", kind="adaptive_avgpool", size=2),
        schema.Dropout(name="drop", probability=0.0 if training else 0.5),
        flatten(),
        linear("fc1", 8, bias=False),
        bn("bn3"),
        lif("lif3"),
        schema.Sum(name="heads", branches=((linear("fc2", 5),), (linear("fc3", 5, bias=False),))),
    ]
    backward = [(4, 0), (3, 1, 2), (5, 2), (5, 5), (2, 1, 3)]
    spec = network(body, shape=(4, 7, 7), sequence=sequence, steps=4, backward=backward)
    assert spec.ports == ("lif1", "b1lif", "mix", "clif", "lif2", "lif3")
    compare(spec, schedule, training=training, size=4)


def pool_same(name: str) -> schema.Pool:
    return schema.Pool(name=name, kind="avgpool", kernel=3, stride=1, padding=1)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", [(11, 7), (8, 5), (5, 8)])
def test_resize_between_any_sizes(size: tuple[int, int], training: bool, schedule: str) -> None:
    """11x7 down to 6x4, 3x2 and a vector, and all the way back: none divides the other; 8x5, on one axis alone."""
    body: list[Any] = [conv("conv1", 4), bn("bn1"), lif("lif1")]
    for n in (2, 3):
        body += [conv(f"conv{n}", 4, stride=2), bn(f"bn{n}"), lif(f"lif{n}")]
    body += [flatten(), linear("fc1", 8), lif("lif4"), linear("fc2", 3)]
    pairs = [(j, i) for j in range(4) for i in range(j + 1)]
    compare(network(body, shape=(2, *size), steps=3, backward=pairs), schedule, training=training, size=2)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", [(9, 5), (8, 8)])
def test_resize_down(size: tuple[int, int], training: bool, schedule: str) -> None:
    """A later port may be the larger one: into a vector, and from a branch of full size into a pooled one."""
    branches = (
        (conv("a", 3, stride=2), bn("abn"), lif("alif"), flatten("aflat"), linear("afc", 5), lif("avec")),
        (conv("b", 3), bn("bbn"), lif("blif"), average("bavg", 2), flatten("bflat"), linear("bfc", 5)),
    )
    body = [conv("conv", 4), lif("lif"), schema.Sum(name="sum", branches=branches)]
    spec = network(body, shape=(2, *size), steps=4, backward=[(3, 1), (3, 2, 2), (3, 0), (2, 2), (2, 1)])
    assert spec.ports == ("lif", "alif", "avec", "blif")
    compare(spec, schedule, training=training)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("delay", [1, 2, 3, 7])
def test_connection_that_closes_no_loop(delay: int, training: bool, schedule: str) -> None:
    """From one branch to another that stands before it: late, but no feedback; one lands on spatial axes, one not."""
    branches = (
        (conv("a", 3), bn("abn"), lif("alif")),
        (conv("b", 3, stride=1), bn("bbn"), lif("blif")),
    )
    heads = ((linear("c", 5), lif("clif"), linear("cfc", 3)), (linear("d", 6), lif("dlif"), linear("dfc", 3)))
    body = [
        schema.Sum(name="sum", branches=branches),
        flatten(),
        schema.Sum(name="heads", branches=heads),
    ]
    for sequence in (False, True):
        spec = network(body, shape=(2, 5, 4), sequence=sequence, steps=4, backward=[(1, 0, delay), (3, 2, delay)])
        compare(spec, schedule, training=training)


def test_deep_chain_of_vectors(schedule: str) -> None:
    body: list[Any] = [flatten()]
    for n in range(3):
        body += [linear(f"fc{n}", 10), bn(f"bn{n}"), lif(f"lif{n}")]
    body.append(linear("out", 3))
    spec = network(body, shape=(1, 4, 3), steps=4, backward=[(2, 0), (1, 1), (2, 2, 2), (2, 1)])
    compare(spec, schedule, training=True, size=6)
    compare(spec, schedule, training=False, size=6)


def test_one_sample(schedule: str) -> None:
    compare(small(steps=3, backward=[(2, 0), (3, 3)]), schedule, training=False, size=1)


def test_no_optimization_and_all_of_it_agree(schedule: str) -> None:
    spec = small(steps=4, backward=[(2, 0), (3, 1, 2)])
    for training in (False, True):
        compare(spec, schedule, training=training, optimize=[])
        compare(spec, schedule, training=training, optimize=None)


def test_training_then_evaluating(schedule: str) -> None:
    """Running statistics gathered in training are those that evaluation uses, on the same module, both ways."""
    spec = small(steps=3, backward=[(2, 0), (3, 2)])
    values = state(spec)
    model, reference = build(spec, schedule, values), Reference(spec, values)
    for turn, training in enumerate([True, True, False, True, False]):
        model.train(training)
        assert_lively(compare_pass(model, reference, schedule, batch(spec, 3, turn), training=training))


def test_frozen_parameters_get_no_gradient(schedule: str) -> None:
    spec = small(steps=3, backward=[(2, 0)])
    model = build(spec, schedule, state(spec)).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("backward."))
    output, _ = execute(model, schedule, spec, batch(spec))
    output.square().sum().backward()
    received = {n for n, p in model.named_parameters() if p.grad is not None}
    assert received == {n for n, _ in model.named_parameters() if n.startswith("backward.")}


def test_without_gradients(schedule: str) -> None:
    """`no_grad` and `inference_mode` change no number."""
    spec = small(steps=4, backward=[(2, 0), (3, 2, 2)])
    model = build(spec, schedule, state(spec)).eval()
    x = batch(spec)
    wanted = Reference(spec, state(spec))(x).output.detach()
    with torch.no_grad():
        assert_close(execute(model, schedule, spec, x)[0], wanted, "no_grad")
    with torch.inference_mode():
        assert_close(execute(model, schedule, spec, x)[0], wanted, "inference_mode")
