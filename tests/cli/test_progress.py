"""Progress off a terminal: a line an epoch on standard error, with the time left, and never a `nan`."""

from __future__ import annotations

import pytest

from bcgraph.cli.commands.train import EpochLines
from bcgraph.cli.progress import Remaining, SearchLines
from bcgraph.search.events import Event
from bcgraph.training.events import Epoch, Step


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_left_follows_from_what_this_call_has_done() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    assert remaining.left(40, 100) == "", "an earlier call has done 40"
    clock.now = 20.0
    assert remaining.left(60, 100) == "0:00:40 left"
    assert remaining.left(100, 100) == ""


def test_an_epoch_of_training_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = EpochLines("training", Remaining(clock))
    for epoch in (1, 2):
        for step in (1, 2):
            clock.now += 1.0
            lines(Step(epoch, 2, step, 2, 0.5))
        lines(Epoch(epoch, 0.1, 0.5, 0.7, 0.6, 2.0))
    told = capsys.readouterr()
    assert told.out == ""
    first, second = told.err.splitlines()
    assert first == "training: epoch 1/2, loss 0.5000, training accuracy 0.7000, test 0.6000, 0:00:01 left"
    assert second == "training: epoch 2/2, loss 0.5000, training accuracy 0.7000, test 0.6000"


def test_a_search_tells_of_each_epoch_and_of_other_stages_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = SearchLines(clock)
    for done in range(1, 31):
        clock.now += 1.0
        lines(Event("init", done, 30))
    for epoch in (1, 2):
        clock.now += 1.0
        lines(Event("supernet", epoch, 2))
    assert capsys.readouterr().err.splitlines() == [
        "scoring the pool: 10/30, 0:00:20 left",
        "scoring the pool: 20/30, 0:00:10 left",
        "scoring the pool: 30/30",
        "training the supernet: epoch 1/2",
        "training the supernet: epoch 2/2",
    ]
