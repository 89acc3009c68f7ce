from __future__ import annotations

import math
import random

import pytest
from scipy.stats import spearmanr

from bcgraph.search.scores.rank_correlation import ranks, spearman


def test_against_scipy() -> None:
    rng = random.Random(0)
    for _ in range(50):
        n = rng.randint(2, 30)
        a = [float(rng.randint(0, 6)) for _ in range(n)]
        b = [rng.random() + 0.2 * x for x in a]
        found = spearman(a, b)
        if len(set(a)) == 1:
            assert math.isnan(found)
        else:
            assert found == pytest.approx(float(spearmanr(a, b).statistic), abs=1e-12)


def test_ties_and_infinities() -> None:
    assert ranks([3.0, 1.0, 3.0, -math.inf]) == [3.5, 2.0, 3.5, 1.0]
    assert spearman([-math.inf, 0.0, 1.0], [5.0, 6.0, 7.0]) == pytest.approx(1.0)
    assert math.isnan(spearman([], []))
    with pytest.raises(ValueError, match="pair up"):
        spearman([1.0], [1.0, 2.0])
