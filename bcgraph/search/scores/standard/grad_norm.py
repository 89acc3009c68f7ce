"""Gradient norm: the size of the weights' gradients (Abdelfattah et al. 2021, arXiv 2101.08134, section 3.1).

The score is the sum of the Euclidean norms of dL/dw, one for each weight of a convolution or linear layer, with L as
for `snip`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph.plugins.values import Score
from bcgraph.search.scores.standard.snip import weight_gradients

if TYPE_CHECKING:
    from torch import Tensor, nn


def grad_norm(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The score of a network on a batch x with labels y `[N]`."""
    return sum(float(g.double().norm()) for _, g in weight_gradients(model, x, y))


SCORE = Score(grad_norm, "gradient norm", "the size of the weights' gradients (Abdelfattah et al. 2021)")
