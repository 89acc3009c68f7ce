"""Training-free scores of a compiled network: `n_score(model, x)` and `e_score(model, x, y)`.

The `*_result` functions give a score together with the reason why a network is dead. `OfSpikes`, `OfGradients` and
`OfConnections` are what `bcgraph.register.score` takes for a score of what neurons send, of the gradients of the input,
or of the specification alone.
"""

from bcgraph.plugins.values import OfConnections, OfGradients, OfSpikes
from bcgraph.search.scores.networks import ScorePair, both_results, e_result, e_score, n_result, n_score
from bcgraph.search.scores.result import ScoreResult

__all__ = [
    "OfConnections",
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
