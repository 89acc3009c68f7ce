"""An additive surrogate: what each connection is worth, by ridge regression of the ranks of noisy evaluations.

For each measure, the ranks of the architectures that have it, as shares, are regressed on the connections that they
hold; the prediction of an architecture is the sum over its connections, and the value the sum over the measures. Noise
that two architectures with a connection do not share averages out, and what was not measured is predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bcgraph import lazy
from bcgraph.plugins.values import Predictor
from bcgraph.search.predictors.ranks import shares

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy.Module("numpy")

RIDGE = 1.0
"""The weight of the squared coefficients, beside the squared errors of shares of ranks."""


def additive(architectures: Sequence[Sequence[object]], measures: Mapping[str, Sequence[float | None]]) -> list[float]:
    """For each architecture the sum over all measures of what its connections are worth together."""
    every = list(dict.fromkeys(key for architecture in architectures for key in architecture))
    held = [set(architecture) for architecture in architectures]
    x = np.array([[float(key in each) for key in every] for each in held]).reshape(len(held), len(every))
    total = np.zeros(len(held))
    for values in measures.values():
        total += _smoothed(x, shares(values))
    return [float(value) for value in total]


def _smoothed(x: NDArray[np.float64], ranks: Sequence[float | None]) -> NDArray[np.float64]:
    """The ridge regression of the ranks that there are, at every row of x."""
    known = [place for place, rank in enumerate(ranks) if rank is not None]
    if not known:
        return np.zeros(len(x))
    y = np.array([ranks[place] for place in known], dtype=np.float64)
    seen = x[known]
    centered = seen - seen.mean(0)
    matrix = centered.T @ centered + RIDGE * np.eye(x.shape[1])
    worth = np.linalg.solve(matrix, centered.T @ (y - y.mean()))
    found: NDArray[np.float64] = (x - seen.mean(0)) @ worth + y.mean()
    return found


PREDICTOR = Predictor(additive, "what each connection is worth by ridge regression of the ranks by each measure")
