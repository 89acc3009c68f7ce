"""Ranks of values of which some are missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bcgraph.search.scores.rank_correlation import ranks


def shares(values: Sequence[float | None]) -> list[float | None]:
    """The rank of each value among those that there are, from 0 to 1 exclusive, and None where there is none.

    Equal values share their mean rank. What failed is -inf and ranks last; a value that is no number counts as that.
    """
    known = [(place, -math.inf if math.isnan(v) else v) for place, v in enumerate(values) if v is not None]
    found: list[float | None] = [None] * len(values)
    for (place, _), rank in zip(known, ranks([value for _, value in known]), strict=True):
        found[place] = (rank - 0.5) / len(known)
    return found
