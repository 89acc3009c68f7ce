"""Accuracy of a compiled network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bcgraph.data.split import Split
from bcgraph.nn.determinism import full_precision
from bcgraph.readout import correct


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts `model` in evaluation mode, without gradients; restores its mode on exit."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), full_precision():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def evaluate(
    model: nn.Module, split: Split, *, readout: str = "mean", batch: int = 256, call: Callable[..., Any] | None = None
) -> float:
    """The share of samples of `split` whose class `model` predicts, between 0 and 1. Outputs that are nan are wrong.

    `model` maps x to O `[T, N, classes]`; `readout` is `mean` or `last`. Inputs go to the device and floating-point
    type of the model's parameters. `call` computes what the model would, as a captured call does.
    """
    like = next(model.parameters())
    right = torch.zeros((), dtype=torch.long, device=like.device)
    with evaluating(model):
        for x, y in split.batches(batch):
            outputs = (call or model)(x.to(device=like.device, dtype=like.dtype))
            right += correct(outputs, readout, y.to(like.device)).sum()
    return int(right) / len(split)
