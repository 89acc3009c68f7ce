"""Training-free scores of a compiled network: `n_score(model, x)` and `e_score(model, x, y)`.

The `*_result` functions give a score together with the reason why a network is dead. `OfSpikes` and `OfGradients` are
what `bcgraph.register.score` takes for a score of what neurons send, or of the gradients of the input.
"""

from bcgraph.plugins.values import OfGradients, OfSpikes
from bcgraph.search.scores.networks import ScorePair, both_results, e_result, e_score, n_result, n_score
from bcgraph.search.scores.result import ScoreResult

__all__ = [
    "OfGradients",
    "OfSpikes",
    "ScorePair",
    "ScoreResult",
    "both_results",
    "e_result",
    "e_score",
    "n_result",
    "n_score",
]
