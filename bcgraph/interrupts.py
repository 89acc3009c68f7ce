"""Ctrl-C that is not lost, and other signals that end a command in the same way.

Python raises KeyboardInterrupt wherever the main thread happens to be, so also inside of a library. There it may come
out as another error, which looks like a fault of the library, or nowhere at all, where Python ignores what is raised.

SIGTERM, which `timeout` and the managers of clusters send, and SIGHUP of a closed terminal would end a process at once.
Within `heeded` they raise what Ctrl-C raises, so that temporary files are removed and other processes ended. Who sends
one signal often sends two: the second would end what the first one began, so it waits its turn.

Some libraries are broken for good by what is raised in the middle of their work: torch aborts the process when that
meets its loading of numpy, and Ray takes it for its own end. A signal waits until modules are loaded, and a library may
be called `apart`, in a thread of its own, where nothing is raised.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import FrameType
from typing import TypeVar

from bcgraph.errors import chain

T = TypeVar("T")

_AGAIN = 0.02
"""Seconds after which an interrupt that was ignored comes again: by then the code that ignores it has ended."""

_ONE = 1.0
"""Seconds after a signal within which further ones are taken for the same wish."""

LOADING = 10.0
"""Seconds for which a signal waits at most until modules are loaded: one of the user's own may never end."""

_IMPORTS = "<frozen importlib._bootstrap>"
"""Where the code stands that loads modules."""

_LOOK = 0.005
"""Seconds after which handlers of signals are put back that a library has replaced."""

_PATIENCE = 30.0
"""Seconds for which an interrupt waits at most for a library that is called apart."""

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
        self._waiting_since: float | None = None

    def take(self, number: int, frame: FrameType | None) -> None:
        """Take a signal as an interrupt, unless one has come just before. It waits while modules are loaded."""
        now = time.monotonic()
        if self._waiting_since is None:
            if now - self._since < _ONE:
                return
            self.number, self._waiting_since = number, now
        if _loads(frame) and now - self._waiting_since < LOADING:
            _send_again(self.number)
            return
        self._since, self._waiting_since = now, None
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
def apart() -> Iterator[Apart]:
    """What calls functions of a library in a thread that lives as long as the block.

    Where this is not the main thread, which alone gets interrupts, functions are called in it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Apart(None)
        return
    calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    threading.Thread(target=_serve, args=(calls,), daemon=True).start()
    try:
        yield Apart(calls)
    finally:
        calls.put(None)


@dataclass(frozen=True)
class Apart:
    """Calls functions in the thread that serves `calls`, so that no interrupt meets them halfway."""

    calls: SimpleQueue[Callable[[], None] | None] | None

    def __call__(self, function: Callable[[], T]) -> T:
        """What `function` returns. An interrupt is raised here after it has ended, or half a minute later.

        Signals that it takes for itself are handled as they were before, at once.
        """
        if self.calls is None:
            return function()
        before = {number: signal.getsignal(number) for number in HEEDED}
        called: Future[T] = Future()
        self.calls.put(partial(_call, function, called))
        interrupt: KeyboardInterrupt | None = None
        until = float("inf")
        while not called.done() and time.monotonic() < until:
            try:
                _put_back(before)
                time.sleep(_LOOK)
            except KeyboardInterrupt as found:
                interrupt, until = found, min(until, time.monotonic() + _PATIENCE)
        _put_back(before)
        if interrupt is not None:
            raise interrupt
        return called.result()


def _serve(calls: SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()


def _call(function: Callable[[], T], called: Future[T]) -> None:
    try:
        called.set_result(function())
    except BaseException as error:
        called.set_exception(error)


def _put_back(handlers: dict[int, Callable[[int, FrameType | None], object] | int | None]) -> None:
    for number, handler in handlers.items():
        # Also where Python knows of no change: the library may be no Python.
        if handler is not None:
            signal.signal(number, handler)


def _loads(frame: FrameType | None) -> bool:
    """Whether the code in `frame` runs because a module is loaded."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTS:
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    """Send a signal in a moment, to the main thread itself, so that what it waits for ends."""
    main = threading.main_thread().ident
    again = threading.Timer(_AGAIN, signal.pthread_kill, (main, number))
    again.daemon = True
    again.start()


def unheeded() -> None:
    """Have signals end this process at once and without a word: what it had to do is done, and Python is at its end."""
    for number in HEEDED:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _again(signals: Signals) -> Iterator[None]:
    """Within, an interrupt that Python ignores is raised again."""
    before = sys.unraisablehook

    def ignored(found: sys.UnraisableHookArgs) -> None:
        if not issubclass(found.exc_type, KeyboardInterrupt):
            before(found)
            return
        signals.forget()
        _send_again(signals.number)

    sys.unraisablehook = ignored
    try:
        yield
    finally:
        sys.unraisablehook = before
