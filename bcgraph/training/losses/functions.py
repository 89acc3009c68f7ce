"""Losses: functions of the outputs of all steps, `[T, N, classes]`, and labels `[N]`.

A loss is chosen by the word of the specification, from `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor

Loss: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]


def tet(outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean over all steps of the cross-entropy of each step's output (temporal efficient training, paper eq. 3).

    `outputs` `[T, N, classes]`, `labels` `[N]`; a scalar. Every step counts the same, so this equals the mean over
    T*N independent samples.
    """
    return F.cross_entropy(outputs.flatten(0, 1), labels.repeat(outputs.shape[0]), label_smoothing=smoothing)


def mean(outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """The cross-entropy of the mean output over all steps."""
    return F.cross_entropy(outputs.mean(0), labels, label_smoothing=smoothing)


def last(outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """The cross-entropy of the last step's output."""
    return F.cross_entropy(outputs[-1], labels, label_smoothing=smoothing)


def mean_squared(outputs: Tensor, threshold: float) -> Tensor:
    """The mean squared distance of all outputs from `threshold`: the second term of the TET loss."""
    return (outputs - threshold).square().mean()


def distillation(outputs: Tensor, logits: Tensor, temperature: float, loss: str) -> Tensor:
    """How far the outputs are from those of a teacher, `logits` `[N, classes]`, both softened (Hinton et al. 2015).

    The Kullback-Leibler divergence of the softmax of the outputs over `temperature` from that of the logits, times the
    square of the temperature, a mean over samples. `loss` says of which outputs: `tet` of every step, of which the mean
    is taken, `mean` of their mean, `last` of the last.
    """
    taken = {"tet": outputs, "mean": outputs.mean(0, keepdim=True), "last": outputs[-1:]}[loss]
    targets = F.log_softmax(logits / temperature, dim=-1).expand(taken.shape)
    found = F.log_softmax(taken / temperature, dim=-1)
    divergence = F.kl_div(found.flatten(0, 1), targets.flatten(0, 1), reduction="batchmean", log_target=True)
    return divergence * temperature**2


LOSSES: dict[str, Loss] = {"tet": tet, "mean": mean, "last": last}
