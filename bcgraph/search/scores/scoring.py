"""The state that a network is scored in.

Scores look at one class-balanced batch at initialization (paper 4.2.2 and appendix A). Their own arithmetic is in
float64, whatever the network computes in: the kernel of the N-score is nearly of rank one, and in float32 its
determinant is noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import RLock
from weakref import WeakKeyDictionary

from torch import nn

from bcgraph.compiler.targets.fx.module import batch_statistics
from bcgraph.nn.determinism import full_precision


@contextmanager
def scoring(model: nn.Module) -> Iterator[None]:
    """Inside, `model` uses batch statistics, no dropout, and every digit of its type.

    Restores modes and running statistics on exit. They belong to the model, so threads that score it take turns.
    """
    with _turn(model):
        modes = {module: module.training for module in model.modules()}
        try:
            model.eval()
            with batch_statistics(model), full_precision():
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode


_TURNS: WeakKeyDictionary[nn.Module, AbstractContextManager[object]] = WeakKeyDictionary()
_LOCK = RLock()


def _turn(model: nn.Module) -> AbstractContextManager[object]:
    with _LOCK:
        return _TURNS.setdefault(model, RLock())
