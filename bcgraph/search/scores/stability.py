"""How much a ranking depends on the initialization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from bcgraph.search.records.evaluations import Note, Record, name_of
from bcgraph.search.scores.rank_correlation import spearman


def stability(records: Sequence[Record]) -> list[Note]:
    """A note for each score on how stable its ranking is between initializations, where there were several."""
    found = []
    names = sorted({m for r in records for m, _ in r.evaluation.samples})
    for measure in names:
        columns = [dict(r.evaluation.samples)[measure] for r in records if measure in dict(r.evaluation.samples)]
        pairs = [spearman(a, b) for a, b in combinations(list(zip(*columns, strict=True)), 2)]
        if pairs:
            found.append(
                Note(
                    f"{name_of(measure)}: Spearman between initializations {min(pairs):.3f} to {max(pairs):.3f}, "
                    f"mean {math.fsum(pairs) / len(pairs):.3f}, over {len(columns)} candidates"
                )
            )
    return found
