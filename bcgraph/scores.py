"""Training-free scores of a compiled network: `n_score(model, x)` and `e_score(model, x, y)`.

The `*_result` functions give a score with the reason where a network is dead.
"""

from bcgraph.search.scores.training_free import (
    ScorePair,
    ScoreResult,
    both_results,
    e_result,
    e_score,
    n_result,
    n_score,
)

__all__ = ["ScorePair", "ScoreResult", "both_results", "e_result", "e_score", "n_result", "n_score"]
