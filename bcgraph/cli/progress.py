"""Progress bars: on a terminal only, on standard error, gone when the work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bcgraph.cli.output import leads

if TYPE_CHECKING:
    from bcgraph.search.events import Event
    from bcgraph.search.events import Progress as OnEvent

STAGES = {
    "init": "scoring the pool",
    "supernet": "training the supernet",
    "evolve": "evolution",
    "gains": "training and pruning",
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


@contextmanager
def search_bars() -> Iterator[OnEvent | None]:
    """One bar for each stage of a search or an audit. Yields the callback for its events; off a terminal, None."""
    if not is_terminal():
        yield None
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


def is_terminal() -> bool:
    """Whether standard error is a terminal, and this is the process that prints there."""
    import sys

    return sys.stderr.isatty() and leads()
