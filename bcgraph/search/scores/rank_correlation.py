"""Spearman's and Pearson's correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation, with the mean rank where values are equal.

    Infinite values rank at the ends. NaN where there are fewer than two values, or all on one side are equal. Raises
    ValueError when the lengths differ.
    """
    return pearson(ranks(a), ranks(b))


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value from 1, smallest first; equal values share their mean rank."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in range(start, end):
            found[order[place]] = (start + 1 + end) / 2
        start = end
    return found


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    """The correlation of two sequences; NaN where one of them does not vary. Raises ValueError when lengths differ."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values do not pair up")
    if not a:
        return math.nan
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    da, db = [x - mean_a for x in a], [x - mean_b for x in b]
    scale = math.sqrt(math.fsum(x * x for x in da) * math.fsum(x * x for x in db))
    return math.fsum(x * y for x, y in zip(da, db, strict=True)) / scale if scale else math.nan
