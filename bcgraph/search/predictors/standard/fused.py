"""Rank fusion: the sum of the ranks by each measure. What one measure gets wrong, another may outweigh."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bcgraph.plugins.values import Predictor
from bcgraph.search.predictors.ranks import shares


def fused(architectures: Sequence[Sequence[object]], measures: Mapping[str, Sequence[float | None]]) -> list[float]:
    """For each architecture the sum over all measures of its rank, as a share; a half where it was not measured."""
    every = [shares(values) for values in measures.values()]
    return [
        math.fsum(0.5 if (rank := each[place]) is None else rank for each in every)
        for place in range(len(architectures))
    ]


PREDICTOR = Predictor(fused, "the sum of the ranks by each measure")
