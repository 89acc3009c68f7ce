"""The time that a run may take: parts that no longer fit are dropped, and one that does not end is stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SHORT = 10.0
"""Seconds below which no part begins."""


class OverrunError(Exception):
    """A part did not end in its time."""


class Budget:
    """`seconds` from now on."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - self.clock()

    def allows(self, least: float) -> bool:
        """Whether a part may begin that takes `least` seconds or more."""
        return self.left > max(least, SHORT)

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Raises OverrunError inside when the time is over. Where a thread cannot be interrupted it has no end."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            yield
            return

        def stop(*_: Any) -> None:
            raise OverrunError("the time is over")

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, max(self.left, 0.001))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
