"""Accuracy of a compiled network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn

from bcgraph.data.split import Split
from bcgraph.nn.determinism import full_precision
from bcgraph.process import Setting
from bcgraph.readout import correct

_Modes: TypeAlias = list[tuple[nn.Module, bool]]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts `model` in evaluation mode, without gradients; restores its mode once no thread evaluates it any more."""
    with _modes(model).kept(), torch.no_grad(), full_precision():
        model.eval()
        yield


_SETTINGS: WeakKeyDictionary[nn.Module, Setting[_Modes]] = WeakKeyDictionary()
_LOCK = RLock()


def _modes(model: nn.Module) -> Setting[_Modes]:
    """The modes of all layers of `model`: one setting for all threads that evaluate it."""
    with _LOCK:
        # By a weak reference, so that the setting does not keep its model.
        return _SETTINGS.setdefault(model, Setting(partial(_read, ref(model)), _write))


def _read(model: ref[nn.Module]) -> _Modes:
    found = model()
    assert found is not None, "whoever evaluates it holds it"
    return [(module, module.training) for module in found.modules()]


def _write(modes: _Modes) -> None:
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
