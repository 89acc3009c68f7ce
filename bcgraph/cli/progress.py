"""Progress bars: on a terminal only, on standard error, gone when the work is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from bcgraph.cli.output import leads, say

if TYPE_CHECKING:
    from bcgraph.search.events import Event
    from bcgraph.search.events import Progress as OnEvent

STAGES = {
    "init": "scoring the pool",
    "supernet": "training the supernet",
    "evolve": "evolution",
    "gains": "training and pruning",
    "finish": "training the best networks",
    "audit": "auditing the scores",
}


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of `total` units. Yields a function that advances it by some of them."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not is_terminal()) as progress:
        task = progress.add_task(what, total=total)

        def advance(units: int) -> None:
            progress.advance(task, units)

        yield advance


class Remaining:
    """How long work takes that is measured in units, from the units done since it was made."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.first: tuple[float, int] | None = None

    def left(self, done: int, total: int) -> str:
        """The time left, as `0:01:30 left`; empty before it is known."""
        now = self.clock()
        if self.first is None:
            # What was done before: an earlier call may have done much of it.
            self.first = (now, done)
            return ""
        began, before = self.first
        if done <= before or done >= total:
            return ""
        seconds = round((now - began) / (done - before) * (total - done))
        return f"{timedelta(seconds=seconds)} left"


@contextmanager
def search_bars() -> Iterator[OnEvent | None]:
    """One bar for each stage of a search or an audit. Yields the callback for its events.

    Off a terminal there is a line on standard error for each epoch, and one in ten seconds of other stages.
    """
    if not is_terminal():
        yield SearchLines() if leads() else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    best = TextColumn("{task.fields[best]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), best, TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:

        def on_event(event: Event) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = shown.add_task(STAGES.get(event.stage, event.stage), best="")
            found = "" if event.best is None else f"best {event.best:.4g}"
            shown.update(tasks[event.stage], total=event.total, completed=event.done, best=found)

        yield on_event


_BY_EPOCH = ("supernet", "gains", "finish")
_EVERY = 10.0
"""Seconds between two lines of a stage without epochs."""


class SearchLines:
    """Prints a line for each epoch of a search, and one in ten seconds of a stage that has none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.remaining: dict[str, Remaining] = {}
        self.printed = clock()

    def __call__(self, event: Event) -> None:
        """Print, if it is time to."""
        remaining = self.remaining.setdefault(event.stage, Remaining(self.clock))
        left = remaining.left(event.done, event.total)
        if event.stage not in _BY_EPOCH and self.clock() - self.printed < _EVERY:
            return
        self.printed = self.clock()
        unit = "epoch " if event.stage in _BY_EPOCH else ""
        parts = [f"{STAGES.get(event.stage, event.stage)}: {unit}{event.done}/{event.total}"]
        parts += [] if event.best is None else [f"best {event.best:.4g}"]
        say(", ".join([*parts, *([left] if left else [])]))


def is_terminal() -> bool:
    """Whether standard error is a terminal, and this is the process that prints there."""
    import sys

    return sys.stderr.isatty() and leads()
