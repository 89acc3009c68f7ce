"""Searches replayed on a made-up table: what is drawn, what is trained, and what it costs."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from bcgraph.search.predictors.standard.additive import additive
from benchmarks.placement import contest
from benchmarks.placement.contest import Search, Table
from benchmarks.placement.costs import Cost

PAIRS = tuple((j, i) for j in range(5) for i in range(j + 1))
ORDER = ((), *((p,) for p in PAIRS), *itertools.combinations(PAIRS, 2))


def table(noise: float = 0.0) -> Table:
    """The accuracy is a sum over connections; every predictor knows it, up to some noise."""
    rng = random.Random(0)
    worth = {pair: rng.random() for pair in PAIRS}
    means = {a: 0.5 + 0.1 * sum(worth[p] for p in a) for a in ORDER}
    known = {0: tuple(means[a] + noise * rng.gauss(0, 1) for a in ORDER)}
    names = ("n", "e", contest.SHOT, "short9", "short3")
    cost = Cost("digits_rows", training=10.0, score=1.0, supernet=20.0, evaluation=0.5)
    return Table("digits_rows", ORDER, means, 0.0, dict.fromkeys(names, known), cost, epochs=12)


def test_what_knows_the_truth_ends_in_the_best_tenth() -> None:
    found = {each.way: each for each in contest.outcomes(table())}
    assert set(found) == set(contest.WAYS)
    assert found["sifted by E-score"].tenth == 1.0
    assert found["halving of 81"].tenth > 0.8, "up to the error of 240 validation samples"
    assert found["random, 1 trained"].tenth < 0.3
    assert found["random, 48 trained"].regret < found["random, 4 trained"].regret < found["random, 1 trained"].regret
    assert found["E-score and locality, best 5 trained 3 times"].seeds == 1


@pytest.mark.parametrize(
    ("way", "cost"),
    [
        ("random, 1 trained", 1.0),
        ("random, 16 trained", 16.0),
        # 121 scores of a tenth, a supernet of two, 12 evaluations of a twentieth, the last training.
        ("sifted by E-score", 12.1 + 2 + 0.6 + 1),
        # Of 12 epochs: 81 for one, 27 for four, nine whole.
        ("halving of 81", 81 / 12 + 27 / 3 + 9),
        ("halving of 27", 27 / 12 + 9 / 3 + 3),
        ("halving of 9", 9 / 3 + 3),
        ("locality, the favorite", 1.0),
        (contest.RECIPE, 12.1 + 2),
        ("E-score and locality, best 5 trained 3 times", 12.1 + 15),
    ],
)
def test_costs(way: str, cost: float) -> None:
    search = Search(table(), 0, random.Random(0))
    contest.WAYS[way][0](search)
    assert search.spent == pytest.approx(cost)


def test_all_runs_of_one_network_share_the_error_of_the_validation_samples() -> None:
    search = Search(table(), 0, random.Random(0))
    first, again = search.trained(ORDER[3]), search.trained(ORDER[3], 3)
    assert first == again != search.table.means[ORDER[3]]
    noisy = Search(replace(table(), spread=0.1), 0, random.Random(0))
    assert noisy.trained(ORDER[3]) != noisy.trained(ORDER[3])


def test_the_paper_returns_what_its_supernet_likes_best() -> None:
    search = Search(table(), 0, random.Random(0))
    found = contest.WAYS["paper"][0](search)
    assert search.table.means[found] > sorted(search.table.means.values())[60]
    assert search.spent > 6 + 2 + 1


def test_a_predictor_has_the_seeds_that_all_its_scores_have() -> None:
    one = table()
    both = replace(one, values={**one.values, "short3": {0: one.values["e"][0], 2: one.values["e"][0]}})
    assert both.seeds(("e", "short3")) == [0]
    assert both.seeds(("short3", "locality")) == [0, 2]
    assert len(both.seeds(("locality",))) == 20
    drawn = contest.Search(both, 0, random.Random(1)).scored(("e",), ORDER, contest.as_they_are)
    assert drawn[0] == max(ORDER, key=lambda a: one.means[a])
    assert contest.Search(both, 0, random.Random(1)).scored(("e",), ORDER, additive)[0] == drawn[0]
