"""Processes that are started to train: their messages arrive, and when one fails none is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from bcgraph.errors import RunError
from bcgraph.training.distributed import launcher
from bcgraph.training.distributed.process_group import SingleProcess, on_every_rank, on_rank_zero
from tests import forked

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Target:
    """Sends who it is; the second then does something of the kind named, and the others wait for it."""

    kind: str

    def __call__(self, send: launcher.Send) -> None:
        rank = int(os.environ["LOCAL_RANK"])
        send((rank, os.getpid()))
        if self.kind == "well":
            return
        if rank == 1:
            ENDS[self.kind]()
        time.sleep(600)


def refuse() -> None:
    raise RunError("E084", "there is no room", hint="make some")


def mistake() -> None:
    raise KeyError("a mistake")


ENDS: dict[str, Callable[[], Any]] = {
    "refused": refuse,
    "mistake": mistake,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exits": lambda: os._exit(3),
    "waits": lambda: None,
}


@pytest.fixture
def _forks() -> Iterator[None]:
    with forked.launched():
        yield


def run(kind: str, number: int = 2, stop: bool = False) -> dict[int, int]:
    """The process of each number."""
    told: dict[int, int] = {}

    def receive(content: tuple[int, int]) -> None:
        told.update([content])
        if stop and len(told) == number:
            raise KeyboardInterrupt

    try:
        launcher.run(Target(kind), number, receive)
    finally:
        for pid in told.values():
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    return told


def test_all_are_heard_and_none_is_left() -> None:
    assert sorted(run("well", 3)) == [0, 1, 2]


@pytest.mark.usefixtures("_forks")
def test_an_error_ends_all_with_its_message() -> None:
    with pytest.raises(RunError) as caught:
        run("refused")
    assert (caught.value.code, caught.value.hint) == ("E084", "make some")


@pytest.mark.usefixtures("_forks")
def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'a mistake'"):
        run("mistake")


@pytest.mark.parametrize(("kind", "how"), [("killed", "by SIGKILL"), ("exits", "with exit code 3")])
def test_a_process_that_is_lost(kind: str, how: str) -> None:
    with pytest.raises(RunError) as caught:
        run(kind)
    assert caught.value.code == "E093"
    assert f"a process that trains was ended {how}" in str(caught.value)


@pytest.mark.usefixtures("_forks")
def test_an_interruption_ends_all() -> None:
    with pytest.raises(KeyboardInterrupt):
        run("waits", stop=True)


def test_a_single_process() -> None:
    alone = SingleProcess()
    with suppress(RunError):
        on_rank_zero(alone, refuse)
        pytest.fail("an error of one passes as it is")
    assert on_every_rank(alone, lambda: 3) == 3
