"""Random small networks with random backward connections compute what their equations say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bcgraph import schema
from bcgraph.compiler.passes import PASSES
from tests import neurons
from tests.equivalence.support import (
    SCHEDULES,
    average,
    bn,
    compare,
    conv,
    flatten,
    lif,
    linear,
    network,
    pool,
)

# All but the one that rounds weights leave every number as it is.
EXACT = sorted(set(PASSES) - {"round_weights"})

NEURONS = [
    neurons.lif(),
    neurons.lif(reset="soft"),
    neurons.lif(tau=0.3, threshold=0.8),
    neurons.lif(tau=1.0, threshold=1.5, detach_reset=True),
    neurons.lif(tau=0.25, reset="soft", detach_reset=True, width=1.5),
]

# Three samples that fire alike have no variance, and a gradient behind their norm is rounding times 1/sqrt(eps).
NORMS = [
    schema.Norm(eps=1e-2),
    schema.Norm(eps=1e-2, momentum=0.4),
    schema.Norm(eps=1e-2, statistics="per_step"),
]


class Bodies:
    """Draws bodies layer by layer. `shape` follows the data.

    A LIF layer stands only where currents are `generic` numbers: on sums of spikes alone, all within a rounding of a
    multiple of something, whether a membrane ties with the threshold would depend on the order of an addition.
    """

    def __init__(self, draw: Callable[[Any], Any], shape: tuple[int, ...], norm: schema.Norm, dropout: float) -> None:
        self.draw = draw
        self.norm_settings = norm
        self.shape = shape
        self.dropout = dropout
        self.generic = True
        self.count = 0
        self.ports = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def body(self, depth: int) -> list[Any]:
        found: list[Any] = []
        for _ in range(self.draw(st.integers(1, 4))):
            found += self.draw(st.sampled_from(self.choices(depth)))(depth)
        return found

    def choices(self, depth: int) -> list[Callable[[int], list[Any]]]:
        found: list[Callable[[int], list[Any]]] = [self.weights, self.weights, self.neurons, self.norm, self.drop]
        if depth:
            found += [self.sum, self.concat]
        if len(self.shape) == 3 and min(self.shape[1:]) >= 2:
            found.append(self.pool)
        return found

    def weights(self, depth: int) -> list[Any]:
        """A convolution or a linear layer, mostly with a norm and a LIF layer behind it."""
        channels = self.draw(st.sampled_from([2, 4, 6]))
        found = [self.mixing(channels, self.draw(st.integers(1, 2)), self.draw(st.booleans()))]
        if self.draw(st.booleans()):
            found += self.norm(depth)
        if self.draw(st.integers(0, 3)):
            found += self.neurons(depth)
        return found

    def mixing(self, channels: int, stride: int, bias: bool) -> Any:
        self.generic = True
        if len(self.shape) == 1:
            self.shape = (channels,)
            return linear(self.name("fc"), channels, bias)
        kernel = self.draw(st.sampled_from([1, 3]))
        groups = self.draw(st.sampled_from([g for g in (1, 2) if not self.shape[0] % g]))
        self.shape = (channels, *((n - 1) // stride + 1 for n in self.shape[1:]))
        return conv(self.name("conv"), channels, kernel, stride=stride, groups=groups, bias=bias)

    def norm(self, depth: int) -> list[Any]:
        self.generic = True
        return [bn(self.name("bn"), self.norm_settings)]

    def neurons(self, depth: int) -> list[Any]:
        found = [] if self.generic else self.norm(depth)
        self.generic = False
        self.ports += 1
        return [*found, lif(self.name("lif"), self.draw(st.sampled_from(NEURONS)))]

    def drop(self, depth: int) -> list[Any]:
        return [schema.Dropout(name=self.name("drop"), probability=self.dropout)]

    def pool(self, depth: int) -> list[Any]:
        kind = self.draw(st.sampled_from(["avgpool", "maxpool"]))
        self.shape = (self.shape[0], *(n // 2 for n in self.shape[1:]))
        return [pool(self.name("pool"), kind=kind)]

    def sum(self, depth: int) -> list[Any]:
        """Branches of any content that end in the same shape; without a change of shape one may be empty."""
        start, generic = self.shape, self.generic
        channels, stride = self.draw(st.sampled_from([2, 4])), self.draw(st.integers(1, 2))
        branches: list[tuple[Any, ...]] = []
        if self.draw(st.booleans()):
            channels, stride = start[0], 1
            branches.append(())
        ends: list[bool] = [generic] if branches else []
        shape = start
        for _ in range(self.draw(st.integers(1, 2))):
            self.shape, self.generic = start, generic
            branch = [self.mixing(channels, stride, False)]
            if self.draw(st.booleans()):
                branch += self.norm(depth)
            if self.draw(st.booleans()):
                branch = self.neurons(depth) + branch if start[0] == channels and generic else branch
            if self.draw(st.booleans()):
                branch += self.neurons(depth)
            branches.append(tuple(branch))
            ends.append(self.generic)
            shape = self.shape
        self.shape, self.generic = shape, any(ends)
        order = self.draw(st.permutations(branches))
        return [schema.Sum(name=self.name("sum"), branches=tuple(order))]

    def concat(self, depth: int) -> list[Any]:
        start, generic = self.shape, self.generic
        branches: list[tuple[Any, ...]] = [()]
        ends, channels = [generic], start[0]
        for _ in range(self.draw(st.integers(1, 2))):
            self.shape, self.generic = start, generic
            branch = [self.mixing(self.draw(st.sampled_from([2, 4])), 1, True)]
            if self.draw(st.booleans()):
                branch += self.neurons(depth)
            branches.append(tuple(branch))
            ends.append(self.generic)
            channels += self.shape[0]
        self.shape, self.generic = (channels, *start[1:]), all(ends)
        return [schema.Concat(name=self.name("cat"), branches=tuple(branches))]


@st.composite
def cases(draw: Any) -> tuple[schema.NetworkSpec, bool]:
    """A network, and whether it trains."""
    training = draw(st.booleans())
    shape = (draw(st.integers(1, 3)), draw(st.integers(3, 7)), draw(st.integers(3, 7)))
    norm = draw(st.sampled_from(NORMS))
    bodies = Bodies(draw, shape, norm, dropout=0.0 if training else 0.3)
    body = bodies.body(depth=1)
    if not bodies.ports:
        body += bodies.neurons(0)
    if draw(st.booleans()):
        body += [average(size=draw(st.integers(1, min(2, *bodies.shape[1:]))))]
    body.append(flatten())
    bodies.shape = (1,)
    if draw(st.booleans()):
        body += bodies.weights(0)
    body.append(linear("out", 3))
    ports = bodies.ports
    pairs = [(j, i) for j in range(ports) for i in range(j + 1)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=4))
    backward = [(j, i, draw(st.integers(1, 3))) for j, i in chosen]
    sequence, steps = draw(st.booleans()), draw(st.integers(1, 4))
    return network(body, shape=shape, sequence=sequence, steps=steps, backward=backward, norm=norm), training


def agree(case: tuple[schema.NetworkSpec, bool]) -> None:
    """All schedules agree with the reference, which runs once for them."""
    spec, training = case
    rates = []
    for schedule in SCHEDULES:
        rates.append(compare(spec, schedule, training=training, lively=False).rate())
        if not training:
            compare(spec, schedule, training=False, lively=False, inference=True)
    assume(all(0.01 < rate < 0.99 for rate in rates))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_random_networks(case: tuple[schema.NetworkSpec, bool]) -> None:
    agree(case)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_many_random_networks(case: tuple[schema.NetworkSpec, bool]) -> None:
    agree(case)


# What a pass has to stand behind to find anything to do.
BEHIND = {"fuse_conv": ("fold_bn", "fuse_neuron"), "hoist": ("fold_bn",)}


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases(), schedule=st.sampled_from(SCHEDULES), order=st.permutations(EXACT), more=st.integers(0, 3))
def test_each_pass_on_random_networks(
    name: str, case: tuple[schema.NetworkSpec, bool], schedule: str, order: list[str], more: int
) -> None:
    """A pass behind what it needs and up to three others, in any order."""
    spec, training = case
    before = [p for p in order if p != name][:more]
    names = [*before, *(p for p in BEHIND.get(name, ()) if p not in before), name]
    frozen = any(PASSES[p].inference_only for p in names)
    compare(spec, schedule, training=training and not frozen, lively=False, optimize=names, inference=frozen)
