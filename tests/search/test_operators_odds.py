"""The odds of every operator against the exact ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from math import comb

import pytest

from bcgraph.errors import SearchError
from bcgraph.schema import NetworkSpec
from bcgraph.search import crossover, mutate, sample, space, space_size
from bcgraph.search.space.pairs import rank_pair, unrank_pair

Make = Callable[..., NetworkSpec]
ChiSquare = Callable[[dict, dict], float]


def pairs(spec: NetworkSpec) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((bc.source, bc.target) for bc in spec.backward))


def everything(ports: int, most: int) -> list[tuple[tuple[int, int], ...]]:
    every = [(j, i) for j in range(ports) for i in range(j + 1)]
    return [chosen for k in range(most + 1) for chosen in combinations(every, k)]


@pytest.mark.parametrize(
    ("ports", "most", "size"), [(17, 2, 11_782), (18, 2, 14_707), (5, 2, 121), (5, 0, 1), (1, 5, 2), (2, 9, 8)]
)
def test_space_size(network: Make, ports: int, most: int, size: int) -> None:
    assert space_size(network(ports), most) == size


def test_negative_most_is_refused(network: Make) -> None:
    with pytest.raises(SearchError) as caught:
        space_size(network(5), -1)
    assert caught.value.code == "E089"


@pytest.mark.parametrize(("ports", "most"), [(5, 2), (5, 4), (3, 6), (4, 1), (1, 3)])
def test_architectures_are_each_numbered_once(network: Make, ports: int, most: int) -> None:
    found = list(space(network(ports), most))
    assert sorted(found) == sorted(everything(ports, most))
    with pytest.raises(IndexError):
        space(network(ports), most).architecture(len(found))


def test_ranks_of_pairs() -> None:
    assert [unrank_pair(rank) for rank in range(6)] == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    for rank in (*range(2000), 10**12 + 7):
        assert rank_pair(unrank_pair(rank)) == rank


def test_large_spaces_are_not_listed(network: Make) -> None:
    spec = network(60)
    most = 12
    drawn = sample(spec, random.Random(3), most)
    assert len(drawn.backward) == 12  # nearly every set is of the largest size
    assert space_size(spec, most) == sum(comb(1830, k) for k in range(13))


def test_sampling_is_uniform_over_the_space(network: Make, chi_square: ChiSquare) -> None:
    spec, rng = network(5), random.Random(11)
    counts = Counter(pairs(sample(spec, rng)) for _ in range(24_200))
    assert chi_square(counts, dict.fromkeys(everything(5, 2), 1 / 121)) > 0.001


def test_sampling_is_uniform_with_three(network: Make, chi_square: ChiSquare) -> None:
    spec, rng = network(3), random.Random(12)
    every = everything(3, 3)
    counts = Counter(pairs(sample(spec, rng, 3)) for _ in range(8_400))
    assert chi_square(counts, dict.fromkeys(every, 1 / len(every))) > 0.001


def mutation_odds(
    pair: tuple[int, int], ports: int, taken: set[tuple[int, int]], alpha: Fraction
) -> dict[tuple[int, int], Fraction]:
    """The exact distribution of one connection's place after mutation, written from the rule."""
    moves = []
    for end in (0, 1):
        found = {}
        for distance in (1, 2):
            for sign in (-1, 1):
                new = list(pair)
                new[end] += sign * distance
                inside = 0 <= new[1] <= new[0] < ports
                if inside and tuple(new) not in taken:
                    found[tuple(new)] = Fraction(1, distance)
        moves.append(found)
    odds: Counter = Counter({pair: 1 - alpha})
    for end in (0, 1):
        chosen = moves[end] or moves[1 - end]
        if not chosen:
            odds[pair] += alpha / 2
        for new, weight in chosen.items():
            odds[new] += alpha / 2 * weight / sum(chosen.values())
    return {k: v for k, v in odds.items() if v}


@pytest.mark.parametrize("pair", [(8, 4), (3, 3), (0, 0), (16, 16), (16, 0), (1, 0), (5, 4)])
@pytest.mark.parametrize("alpha", [Fraction(1), Fraction(1, 5)])
def test_mutation_odds(network: Make, chi_square: ChiSquare, pair: tuple[int, int], alpha: Fraction) -> None:
    spec, rng = network(17, [pair]), random.Random(hash(pair))
    odds = mutation_odds(pair, 17, {pair}, alpha)
    counts = Counter(pairs(mutate(spec, rng, float(alpha)))[0] for _ in range(6000))
    assert chi_square(counts, {k: float(v) for k, v in odds.items()}) > 0.001


def test_mutation_of_two_goes_one_by_one(network: Make, chi_square: ChiSquare) -> None:
    first, second, alpha = (3, 1), (3, 2), Fraction(1, 2)
    odds: Counter = Counter()
    for a, p in mutation_odds(first, 5, {first, second}, alpha).items():
        for b, q in mutation_odds(second, 5, {a, second}, alpha).items():
            odds[tuple(sorted((a, b)))] += p * q
    assert sum(odds.values()) == 1
    spec, rng = network(5, [first, second]), random.Random(4)
    counts = Counter(pairs(mutate(spec, rng, 0.5)) for _ in range(20_000))
    assert chi_square(counts, {k: float(v) for k, v in odds.items()}) > 0.001


@pytest.mark.parametrize("connections", [[], [(0, 0)]])
def test_mutation_without_a_move_returns_the_parent(network: Make, connections: list) -> None:
    spec = network(1, connections)
    assert mutate(spec, random.Random(0), 1.0) is spec
    assert mutate(network(5, [(2, 1)]), random.Random(0), 0.0) == network(5, [(2, 1)])


@pytest.mark.parametrize("connections", [[], [(3, 1)]])
def test_crossover_adds_a_different_connection(network: Make, chi_square: ChiSquare, connections: list) -> None:
    spec, rng = network(5, connections), random.Random(6)
    possible = [
        tuple(sorted({*connections, (j, i)})) for j in range(5) for i in range(j + 1) if (j, i) not in connections
    ]
    counts = Counter(pairs(crossover(spec, rng)) for _ in range(6000))
    assert chi_square(counts, dict.fromkeys(possible, 1 / len(possible))) > 0.001


def test_crossover_swaps_targets(network: Make) -> None:
    assert pairs(crossover(network(9, [(8, 2), (5, 4)]), random.Random(0))) == ((5, 2), (8, 4))


@pytest.mark.parametrize(
    "connections",
    [
        [(8, 6), (5, 1)],  # the swap would run forward
        [(8, 2), (5, 2)],  # one target: the swap changes nothing
        [(8, 2), (8, 1)],  # one source: likewise
        [(8, 2), (5, 4), (8, 4), (5, 2)],  # the swaps that change something repeat a connection
    ],
)
def test_crossover_without_a_valid_swap_returns_the_parent(network: Make, connections: list) -> None:
    spec = network(9, connections)
    for seed in range(20):
        assert crossover(spec, random.Random(seed)) is spec


def test_crossover_of_delays_from_one_source(network: Make) -> None:
    child = crossover(network(9, [(8, 2, 1), (8, 1, 3)]), random.Random(0))
    assert {(bc.source, bc.target, bc.delay) for bc in child.backward} == {(8, 1, 1), (8, 2, 3)}


def test_crossover_draws_among_the_valid_swaps(network: Make, chi_square: ChiSquare) -> None:
    spec, rng = network(9, [(8, 2), (5, 4), (3, 0)]), random.Random(9)
    valid = [
        ((3, 0), (5, 2), (8, 4)),
        ((3, 2), (5, 4), (8, 0)),
    ]
    counts = Counter(pairs(crossover(spec, rng)) for _ in range(2000))
    assert chi_square(counts, dict.fromkeys(valid, 0.5)) > 0.001


def test_crossover_respects_the_limit(network: Make) -> None:
    spec = network(5, [(3, 1)])
    assert crossover(spec, random.Random(0), max_backward=1) is spec
    full = network(1, [(0, 0)])
    assert crossover(full, random.Random(0)) is full


def test_restricted_sampling_is_uniform(network: Make, chi_square: ChiSquare) -> None:
    spec, rng = network(5, halve_at=(2,)), random.Random(2)
    allowed = [(0, 0), (1, 0), (1, 1)] + [(j, i) for j in range(2, 5) for i in range(2, j + 1)]
    every = [c for k in range(3) for c in combinations(allowed, k)]
    assert space_size(spec, same_resolution=True) == len(every) == 46
    counts = Counter(pairs(sample(spec, rng, same_resolution=True)) for _ in range(9_200))
    assert chi_square(counts, dict.fromkeys(every, 1 / 46)) > 0.001
