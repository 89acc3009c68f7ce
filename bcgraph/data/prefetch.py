"""Items that a background thread reads ahead of their use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Generic, TypeVar

T = TypeVar("T")

# Items that wait to be used, besides the one in work.
DEPTH = 2


@dataclass(frozen=True, eq=False)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True, eq=False)
class _End:
    error: BaseException | None = None


@contextmanager
def prefetched(items: Iterator[T], depth: int = DEPTH) -> Iterator[Iterator[T]]:
    """`items` in their order, of which a thread reads up to `depth` ahead.

    An exception of `items` is raised where its item would have come. The thread has ended on exit, also when the block
    raises or stops early.
    """
    queue: Queue[_Item[T] | _End] = Queue(depth)
    stopped = threading.Event()

    def read() -> None:
        try:
            for item in items:
                queue.put(_Item(item))
                if stopped.is_set():
                    return
            queue.put(_End())
        except BaseException as error:
            queue.put(_End(error))

    thread = threading.Thread(target=read, name="bcgraph-prefetch", daemon=True)
    thread.start()
    try:
        yield _received(queue)
    finally:
        stopped.set()
        # A thread that waits for room gets it; it puts no second item after the event.
        with suppress(Empty):
            while True:
                queue.get_nowait()
        thread.join()


def _received(queue: Queue[_Item[T] | _End]) -> Iterator[T]:
    while isinstance(received := queue.get(), _Item):
        yield received.value
    if received.error is not None:
        raise received.error
