"""The replay of the recommended recipe on a made-up table, whose best architectures a perfect score knows."""

from __future__ import annotations

import random

from bcgraph.search.predictors.standard.fused import fused
from benchmarks.placement import recipe


def test_a_perfect_score_ends_in_the_best_tenth_and_noise_does_not() -> None:
    rng = random.Random(0)
    worth = {(j, i): rng.random() for j in range(6) for i in range(j + 1)}
    order = [(a, b) for a in worth for b in worth if a < b]
    runs = {each: [sum(worth[pair] for pair in each) + rng.gauss(0, 0.01) for _ in range(3)] for each in order}
    perfect = {each: [sum(worth[pair] for pair in each)] for each in order}
    noise = [{each: [rng.random()] for each in order} for _ in range(10)]
    for top, seeds in ((1, 0), (3, 3)):
        assert recipe.share(runs, [perfect] * 3, fused, len(order), top, seeds, 0.0) == 1.0
    assert recipe.share(runs, noise, fused, len(order), 1, 0, 0.0) < 0.5
    assert recipe.share(runs, noise, fused, len(order), 40, 3, 0.0) > 0.5


def test_the_tables_here_are_read() -> None:
    runs = recipe.read_runs(recipe.TABLE)
    assert len(runs) == 121
    assert {len(each) for each in runs.values()} == {5}
