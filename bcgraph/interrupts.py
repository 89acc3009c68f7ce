"""Ctrl-C that is not lost, and SIGTERM that ends a command in the same way.

Python raises KeyboardInterrupt wherever the main thread happens to be, so also inside of a library. There it may come
out as another error, which looks like a fault of the library, or nowhere at all, where Python ignores what is raised.

SIGTERM, which `timeout` and the managers of clusters send, would end a process at once. Within `Signals` it raises what
Ctrl-C raises, so that temporary files are removed and other processes ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bcgraph.errors import chain

_AGAIN = 0.02
"""Seconds after which an interrupt that was ignored comes again: by then the code that ignores it has ended."""

_RANK = "LOCAL_RANK"
"""The variable that launchers give to processes that train together."""


def interrupted(error: BaseException) -> bool:
    """Whether `error` is an interrupt, or was raised because of one."""
    return any(isinstance(one, KeyboardInterrupt) for one in chain(error))


def check(error: BaseException) -> None:
    """Raise KeyboardInterrupt where `error` was raised because of an interrupt: it is no failure then."""
    if interrupted(error):
        raise KeyboardInterrupt from error


class Signals:
    """Which signal it was that raised KeyboardInterrupt within `heeded`."""

    terminated = False

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """Take SIGTERM as an interrupt."""
        self.terminated = True
        raise KeyboardInterrupt


@contextmanager
def heeded(signals: Signals | None = None) -> Iterator[None]:
    """Within, SIGTERM raises KeyboardInterrupt, where nobody else handles it; `signals` is told.

    An interrupt that Python ignores, as it does in a finalizer, is raised again a moment later.
    """
    with _handling(signals or Signals()), _again():
        yield


@contextmanager
def _handling(signals: Signals) -> Iterator[None]:
    here = threading.current_thread() is threading.main_thread()
    # One of several that train together may wait for the others, where Python raises nothing: the signal ends it.
    if not here or _RANK in os.environ or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signals.terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _again() -> Iterator[None]:
    """Within, an interrupt that Python ignores is raised again."""
    before = sys.unraisablehook
    main = threading.main_thread().ident

    def ignored(found: sys.UnraisableHookArgs) -> None:
        if not issubclass(found.exc_type, KeyboardInterrupt):
            before(found)
            return
        # To the thread itself, so that what it waits for ends.
        again = threading.Timer(_AGAIN, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = ignored
    try:
        yield
    finally:
        sys.unraisablehook = before
