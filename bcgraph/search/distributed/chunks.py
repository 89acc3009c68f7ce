"""How work is cut into tasks: large enough to hide the cost of handing one out, small enough for an even load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

GRAIN = 0.5
"""Seconds that a task should take. Handing one out costs 2 to 3 milliseconds, less than one per cent of that."""

# Tasks for each worker near the end of the work, so that none waits long for the last.
_SHARES = 4


class TaskSource(Protocol):
    """Gives out tasks, and learns how long they took."""

    def draw(self) -> Any | None:
        """The next task; None when there is no more."""
        ...

    def took(self, task: Any, seconds: float) -> None:
        """Called when a task is done."""
        ...


@dataclass
class Chunks:
    """Tasks that are tuples of consecutive `items`.

    The first hold one item each. Later ones are as large as the measured seconds of an item allow.
    """

    items: Sequence[Any]
    workers: int
    grain: float = GRAIN
    given: int = 0
    _done: int = 0
    _seconds: float = 0.0

    def draw(self) -> tuple[Any, ...] | None:
        """The next few items."""
        if self.given == len(self.items):
            return None
        chunk = tuple(self.items[self.given : self.given + self._size()])
        self.given += len(chunk)
        return chunk

    def took(self, task: Sequence[Any], seconds: float) -> None:
        """Learn how long an item takes."""
        self._done += len(task)
        self._seconds += seconds

    def _size(self) -> int:
        if not self._done:
            return 1
        fair = (len(self.items) - self.given) // (_SHARES * self.workers)
        return max(1, min(fair, int(self.grain * self._done / max(self._seconds, 1e-9))))


@dataclass
class FixedTasks:
    """Tasks that are cut beforehand."""

    tasks: Sequence[Any]
    given: int = field(default=0)

    def draw(self) -> Any | None:
        """The next task."""
        if self.given == len(self.tasks):
            return None
        self.given += 1
        return self.tasks[self.given - 1]

    def took(self, task: Any, seconds: float) -> None:
        """Nothing to learn."""


def divide(count: int, parts: int) -> list[range]:
    """`range(count)` in at most `parts` ranges of about equal length, none of them empty."""
    parts = max(1, min(count, parts))
    cuts = [count * i // parts for i in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(cuts) if a < b]
