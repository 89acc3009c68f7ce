"""Both scores of a network from one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from bcgraph.compiler.targets.fx.observer import codes, spikes
from bcgraph.search.scores.e_score import check_labels, e_score_from_jacobian, jacobian
from bcgraph.search.scores.n_score import n_score_from_spikes
from bcgraph.search.scores.scoring import ScoreResult, scoring


@dataclass(frozen=True, slots=True)
class ScorePair:
    """Both scores of one network on one batch."""

    n: ScoreResult
    e: ScoreResult


def both_results(model: fx.GraphModule, x: Tensor, y: Tensor) -> ScorePair:
    """Both scores from one forward pass; equal to `n_result` and `e_result`, and raises what they raise."""
    check_labels(x, y)
    with scoring(model), torch.enable_grad():
        inputs = x.detach().clone().requires_grad_()
        output, found = spikes(model, inputs)
        n = n_score_from_spikes([s.detach() for s in codes(model, found).values()])
        found.clear()
        rows = jacobian(output, inputs)
    return ScorePair(n, e_score_from_jacobian(rows, y))
