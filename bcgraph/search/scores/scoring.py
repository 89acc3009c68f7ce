"""What both training-free scores share: their result, and the state that a network is scored in.

Both scores look at one class-balanced batch at initialization (paper 4.2.2 and appendix A). Their own arithmetic is in
float64, whatever the network computes in: the kernel of the N-score is nearly of rank one, and in float32 its
determinant is noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from bcgraph.compiler.targets.fx.module import batch_statistics
from bcgraph.nn.determinism import full_precision


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """A score. `reason` says why the score is -inf, and is None for a finite one.

    A dead network scores -inf: it ranks last, and the search keeps it.
    """

    value: float
    reason: str | None = None

    @staticmethod
    def dead(reason: str) -> ScoreResult:
        """The result of a network that cannot be scored."""
        return ScoreResult(-math.inf, reason)


@contextmanager
def scoring(model: nn.Module) -> Iterator[None]:
    """Inside, `model` uses batch statistics, no dropout, and every digit of its type.

    Restores modes and running statistics on exit.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with batch_statistics(model), full_precision():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
