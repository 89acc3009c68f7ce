"""Progress events of a running search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Event:
    """A step of a run: `done` of `total`, and the best value so far.

    The stage is "init", "supernet", "evolve", "gains", "finish" or "audit".
    """

    stage: str
    done: int
    total: int
    best: float | None = None


Progress: TypeAlias = Callable[[Event], None]
