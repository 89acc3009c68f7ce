"""Ctrl-C that is not lost.

Python raises KeyboardInterrupt wherever the main thread happens to be, so also inside of a library. There it may come
out as another error, which looks like a fault of the library, or nowhere at all, where Python ignores what is raised.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_AGAIN = 0.02
"""Seconds after which an interrupt that was ignored comes again: by then the code that ignores it has ended."""


def interrupted(error: BaseException) -> bool:
    """Whether `error` is an interrupt, or was raised because of one."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, KeyboardInterrupt):
            return True
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
    return False


@contextmanager
def heeded() -> Iterator[None]:
    """Within, an interrupt that Python ignores, as it does in a finalizer, is raised again a moment later."""
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
