"""Progress bars: on a terminal only, on standard error, gone when the work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bcgraph.cli.output import leads


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of `total` units; the block gets a function that moves it on by some of them."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not is_terminal()) as progress:
        task = progress.add_task(what, total=total)

        def advance(units: int) -> None:
            progress.advance(task, units)

        yield advance


def is_terminal() -> bool:
    """Whether a person is watching standard error, and this is the process that prints there."""
    import sys

    return sys.stderr.isatty() and leads()
