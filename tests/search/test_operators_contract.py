"""What every operator keeps to, whatever it does: one suite for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcgraph.schema import NetworkSpec
from bcgraph.search import crossover, mutate, sample
from bcgraph.search.space.pairs import unrank_pair
from tests.search.conftest import chain

Operator = Callable[[NetworkSpec, random.Random], NetworkSpec]

OPERATORS: dict[str, Operator] = {
    "sample": lambda spec, rng: sample(spec, rng, 3),
    "sample one resolution": lambda spec, rng: sample(spec, rng, 3, same_resolution=True),
    "mutate": mutate,
    "mutate surely": lambda spec, rng: mutate(spec, rng, 1.0),
    "mutate one resolution": lambda spec, rng: mutate(spec, rng, 0.9, same_resolution=True),
    "crossover": lambda spec, rng: crossover(spec, rng, 3),
    "crossover one resolution": lambda spec, rng: crossover(spec, rng, 3, same_resolution=True),
}


def networks() -> st.SearchStrategy[NetworkSpec]:
    def connections(ports: int) -> st.SearchStrategy[NetworkSpec]:
        ranks = st.integers(0, ports * (ports + 1) // 2 - 1)
        sets = st.lists(st.tuples(ranks, st.integers(1, 3)), max_size=3, unique_by=lambda p: p[0])
        return sets.map(lambda found: chain(ports, [(*unrank_pair(r), d) for r, d in found]))

    return st.integers(1, 7).flatmap(connections)


@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=60, deadline=None)
@given(spec=networks(), seed=st.integers(0, 2**32))
def test_contract(name: str, spec: NetworkSpec, seed: int) -> None:
    operator = OPERATORS[name]
    before, again = spec.model_dump_json(), random.Random(seed)
    child = operator(spec, random.Random(seed))

    assert operator(spec, again) == child, "the same seed gives the same child"
    assert spec.model_dump_json() == before, "the parent is as it was"
    pairs = [(bc.source, bc.target) for bc in child.backward]
    assert len(pairs) == len(set(pairs)) <= 3
    assert all(0 <= target <= source < len(spec.ports) for source, target in pairs)
    assert child.with_backward(spec.backward) == spec, "nothing but the connections differs"
    assert NetworkSpec.model_validate(child.__dict__) == child


@pytest.mark.parametrize("name", OPERATORS)
def test_seeds_differ(name: str, network: Callable[..., NetworkSpec]) -> None:
    spec = network(7, [(5, 3), (4, 1), (2, 0)] if "crossover" in name else [(5, 3)])
    children = {OPERATORS[name](spec, random.Random(seed)) for seed in range(40)}
    assert len(children) > 1


@settings(max_examples=100, deadline=None)
@given(spec=networks(), seed=st.integers(0, 2**32))
def test_delays_travel(spec: NetworkSpec, seed: int) -> None:
    mutated = mutate(spec, random.Random(seed), 1.0)
    assert [bc.delay for bc in mutated.backward] == [bc.delay for bc in spec.backward]
    if len(spec.backward) >= 2:
        crossed = crossover(spec, random.Random(seed))
        assert [(bc.source, bc.delay) for bc in crossed.backward] == [(bc.source, bc.delay) for bc in spec.backward]


def test_one_resolution_is_kept(network: Callable[..., NetworkSpec]) -> None:
    spec = network(6, [(1, 0), (5, 4)], halve_at=(2, 4))
    group = [0, 0, 1, 1, 2, 2]
    rng = random.Random(5)
    for operator in (
        lambda s, r: sample(s, r, same_resolution=True),
        lambda s, r: mutate(s, r, 1.0, same_resolution=True),
        lambda s, r: crossover(s, r, same_resolution=True),
    ):
        for _ in range(100):
            child = operator(spec, rng)
            assert all(group[bc.source] == group[bc.target] for bc in child.backward)
