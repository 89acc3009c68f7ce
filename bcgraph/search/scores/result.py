"""The result of a score."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
