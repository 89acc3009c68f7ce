"""SNIP: how much the loss depends on the weights (Lee et al. 2019, arXiv 1810.02340; summed over a network as in
Abdelfattah et al. 2021, arXiv 2101.08134, eq. 1).

The score is the sum of |w * dL/dw| over all weights of convolutions and linear layers, with L the cross-entropy of the
output's mean over the steps. Gradients pass spikes by their surrogates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy
from bcgraph.plugins.values import Score

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = lazy.Module("torch")


def snip(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The score of a network on a batch x with labels y `[N]`."""
    return sum(float((w.detach() * g).abs().sum(dtype=torch.float64)) for w, g in weight_gradients(model, x, y))


def weight_gradients(model: nn.Module, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each weight of two axes or more, and the gradient of the cross-entropy with respect to it; zero where unused."""
    weights = [each.requires_grad_() for each in model.parameters() if each.dim() > 1]
    loss = torch.nn.functional.cross_entropy(model(x).mean(dim=0), y)
    return list(zip(weights, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True))


SCORE = Score(snip, "SNIP", "how much the loss depends on the weights (Lee et al. 2019)")
