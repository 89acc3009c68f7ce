"""What a process has once, and blocks that need it in a state of their own while other threads go on.

A setting of a library, such as torch's default type, holds for all threads. A block that sets it and puts back what it
has found is right alone. Of two blocks that overlap, the one that ends first would end the setting of the other, and
the last would put back what the first had set, for good.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Generic, TextIO, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class _Block(Generic[T]):
    """A block that has begun, and what it is to put back when no later one is left."""

    before: T


class Setting(Generic[T]):
    """A setting of the process, which `read` gives and `write` sets. `lock` is held meanwhile.

    Blocks begin and end in any order. The one that began last decides, and the last to end puts back what was there
    before all of them.
    """

    def __init__(
        self, read: Callable[[], T], write: Callable[[T], object], lock: AbstractContextManager[object] | None = None
    ) -> None:
        self._read = read
        self._write = write
        self._lock = RLock() if lock is None else lock
        self._blocks: list[_Block[T]] = []

    @contextmanager
    def set(self, value: T) -> Iterator[None]:
        """Inside, the setting is `value`, unless a block that begins later sets another."""
        with ExitStack() as stack:
            with self._lock:
                stack.enter_context(self.kept())
                self._write(value)
            yield

    @contextmanager
    def kept(self) -> Iterator[None]:
        """On exit the setting is what it was, whatever has been done to it inside."""
        with self._lock:
            own = _Block(self._read())
            self._blocks.append(own)
        try:
            yield
        finally:
            with self._lock:
                index = self._blocks.index(own)
                del self._blocks[index]
                if index < len(self._blocks):
                    self._blocks[index].before = own.before
                else:
                    self._write(own.before)


GENERATORS = RLock()
"""Held from where a global generator of random numbers is seeded to the last number that is drawn from it."""

_WARNINGS = RLock()


@contextmanager
def ignored(category: type[Warning]) -> Iterator[None]:
    """Inside, warnings of `category` are not shown. One thread at a time: Python keeps one list of filters."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield


def _print_to(stream: TextIO) -> None:
    sys.stdout = stream


_OUTPUT: Setting[TextIO] = Setting(lambda: sys.stdout, _print_to)


def printed_as_messages() -> AbstractContextManager[None]:
    """Inside, what a library prints goes to standard error: it is no result of a command."""
    return _OUTPUT.set(sys.stderr)
