"""Ctrl-C that is not lost, and other signals that end a command in the same way.

Python raises KeyboardInterrupt wherever the main thread happens to be, so also inside of a library. There it may come
out as another error, which looks like a fault of the library, or nowhere at all, where Python ignores what is raised.

SIGTERM, which `timeout` and the managers of clusters send, and SIGHUP of a closed terminal would end a process at once.
Within `heeded` they raise what Ctrl-C raises, so that temporary files are removed and other processes ended. Who sends
one signal often sends two: the second would end what the first one began, so it waits its turn.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bcgraph.errors import chain

_AGAIN = 0.02
"""Seconds after which an interrupt that was ignored comes again: by then the code that ignores it has ended."""

_ONE = 1.0
"""Seconds after a signal within which further ones are taken for the same wish."""

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
    """Which signal it was that raised KeyboardInterrupt within `heeded`: SIGINT, where there was no other."""

    number: int = signal.SIGINT

    def __init__(self) -> None:
        self._since = -_ONE

    def take(self, number: int, frame: FrameType | None) -> None:
        """Take a signal as an interrupt, unless one has come just before."""
        now = time.monotonic()
        if now - self._since < _ONE:
            return
        self.number, self._since = number, now
        raise KeyboardInterrupt

    def forget(self) -> None:
        """The interrupt was lost, so that the next signal raises it."""
        self._since = -_ONE

    @property
    def code(self) -> int:
        """The exit code, by which a shell knows the signal."""
        return 128 + self.number


@contextmanager
def heeded(signals: Signals | None = None) -> Iterator[None]:
    """Within, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, where nobody else handles them; `signals` is told.

    An interrupt that Python ignores, as it does in a finalizer, is raised again a moment later.
    """
    signals = signals or Signals()
    with _handling(signals), _again(signals):
        yield


@contextmanager
def _handling(signals: Signals) -> Iterator[None]:
    here = threading.current_thread() is threading.main_thread()
    # One of several that train together may wait for the others, where Python raises nothing: the signal ends it.
    if not here or _RANK in os.environ:
        yield
        return
    before = {number: signal.getsignal(number) for number in HEEDED}
    taken = [number for number, handler in before.items() if handler is HEEDED[number]]
    try:
        for number in taken:
            signal.signal(number, signals.take)
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


HEEDED: dict[int, object] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    **({signal.SIGHUP: signal.SIG_DFL} if hasattr(signal, "SIGHUP") else {}),
}
"""The signals that end a command, and what handles each where nobody else wants to."""


@contextmanager
def kept() -> Iterator[None]:
    """Within, a library may take signals for itself; after it, they are handled as they were before.

    So is a signal at which the library has exited.
    """
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in HEEDED} if here else {}
    missed: int | None = None
    try:
        yield
    except SystemExit as ended:
        if ended.code not in before:
            raise
        missed = int(ended.code)
    finally:
        for number, handler in before.items():
            # Also where Python knows of no change: the library may be no Python.
            if handler is not None:
                signal.signal(number, handler)
    if missed is not None:
        signal.raise_signal(missed)


def unheeded() -> None:
    """Have signals end this process at once and without a word: what it had to do is done, and Python is at its end."""
    for number in HEEDED:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _again(signals: Signals) -> Iterator[None]:
    """Within, an interrupt that Python ignores is raised again."""
    before = sys.unraisablehook
    main = threading.main_thread().ident

    def ignored(found: sys.UnraisableHookArgs) -> None:
        if not issubclass(found.exc_type, KeyboardInterrupt):
            before(found)
            return
        signals.forget()
        # To the thread itself, so that what it waits for ends.
        again = threading.Timer(_AGAIN, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = ignored
    try:
        yield
    finally:
        sys.unraisablehook = before
