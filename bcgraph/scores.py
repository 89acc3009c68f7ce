"""Training-free scores of a compiled network: `n_score(model, x)` and `e_score(model, x, y)`.

The `*_result` functions give a score together with the reason why a network is dead.
"""

from bcgraph.search.scores.e_score import e_result, e_score
from bcgraph.search.scores.n_score import n_result, n_score
from bcgraph.search.scores.score_pair import ScorePair, both_results
from bcgraph.search.scores.scoring import ScoreResult

__all__ = ["ScorePair", "ScoreResult", "both_results", "e_result", "e_score", "n_result", "n_score"]
