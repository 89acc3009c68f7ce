"""Items that a thread reads ahead: their order, their errors, and that no thread is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from bcgraph.data.prefetch import prefetched
from bcgraph.errors import DataError


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def counted(number: int, read: list[int]) -> Iterator[int]:
    for item in range(number):
        read.append(item)
        yield item


def test_all_items_in_their_order() -> None:
    with prefetched(counted(50, [])) as items:
        assert list(items) == list(range(50))
    with prefetched(iter([])) as items:
        assert list(items) == []


def test_no_more_than_a_few_are_read_ahead() -> None:
    read: list[int] = []
    with prefetched(counted(50, read), depth=2) as items:
        assert next(items) == 0
        time.sleep(0.1)
        # One is used, two wait, and one is in work.
        assert len(read) == 4
        assert threading.current_thread() is threading.main_thread()
    assert len(read) <= 5


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def failing() -> Iterator[int]:
        yield from range(3)
        raise DataError("E081", "the image cannot be read")

    seen: list[int] = []

    def use() -> None:
        with prefetched(failing()) as items:
            seen.extend(items)

    with pytest.raises(DataError, match="cannot be read"):
        use()
    # `extend` keeps what came before the error.
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_block_that_fails_ends_the_thread(error: type[BaseException]) -> None:
    def use() -> None:
        with prefetched(counted(50, [])) as items:
            next(items)
            raise error

    with pytest.raises(error):
        use()


def test_a_block_that_reads_nothing() -> None:
    with prefetched(counted(50, [])):
        pass
