"""The batches of an epoch and their losses: order, errors, and a GPU whose losses come one step late."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from bcgraph import data
from bcgraph.data.split import Split
from bcgraph.errors import BcgraphError, DataError
from bcgraph.training import batches as module
from bcgraph.training.batches import Batch, batches, losses
from bcgraph.training.distributed.process_group import SingleProcess
from tests.training.nets import plain

SPEC = plain(sequence=True, data=plain().data)
ALONE = SingleProcess()


@pytest.fixture(scope="module")
def split() -> Split:
    spec = plain(sequence=True)
    return data.load(spec.data, spec.input, spec.steps).train.subset(range(250))


@dataclass(frozen=True)
class Unread:
    """Samples of which those from `bad` on cannot be read."""

    samples: Any
    bad: int

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, indices: Any) -> Any:
        if max(indices) >= self.bad:
            raise DataError("E081", "the image cannot be read")
        return self.samples.take(indices)


def unread(split: Split, bad: int) -> Split:
    return replace(split, part=replace(split.part, samples=Unread(split.part.samples, bad)))


def test_they_are_those_of_the_split(split: Split) -> None:
    with batches(SPEC, split, ALONE, 3, drop_last=False) as read:
        found = list(read)
    assert [batch.size for batch in found] == [100, 100, 50]
    for batch, (x, y) in zip(found, split.batches(100, 3), strict=True):
        assert torch.equal(batch.x, x)
        assert torch.equal(batch.y, y)
    with batches(SPEC, split, ALONE, 3, drop_last=True) as read:
        assert [batch.size for batch in read] == [100, 100]


def test_one_process_raises_its_error(split: Split) -> None:
    def use() -> None:
        with batches(SPEC, unread(split, 0), ALONE, 3, drop_last=False) as read:
            next(read)

    with pytest.raises(DataError, match="cannot be read"):
        use()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_one_of_several_gives_zeros_of_the_same_shape(split: Split, rank: int) -> None:
    group = SingleProcess(rank, 3, rank == 0)
    with batches(SPEC, split, group, 3, drop_last=False) as read:
        expected = list(read)
    with batches(SPEC, unread(split, 0), group, 3, drop_last=False) as read:
        found = list(read)
    for batch, other in zip(found, expected, strict=True):
        assert isinstance(batch.error, DataError)
        assert other.error is None
        assert (batch.x.shape, batch.x.dtype, batch.y.dtype) == (other.x.shape, other.x.dtype, other.y.dtype)
        assert (batch.size, len(batch.y)) == (other.size, len(other.y))
        assert not batch.x.any()


class Event:
    def synchronize(self) -> None:
        pass


def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses as they come from a GPU."""
    plain_of = module._Loss.of
    monkeypatch.setattr(module._Loss, "of", lambda *given: replace(plain_of(*given), event=Event()))


def epoch(number: int, error: BcgraphError | None = None) -> Iterator[Batch]:
    return (Batch(torch.zeros(1), torch.zeros(1), 10 + n, error) for n in range(number))


@pytest.mark.parametrize("gpu", [False, True])
def test_losses_in_their_order(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    if gpu:
        late(monkeypatch)
    done: list[int] = []

    def update(number: int, batch: Batch) -> torch.Tensor:
        done.append(number)
        return torch.tensor(float(number))

    seen = []
    for number, size, value in losses(ALONE, epoch(4), update):
        seen.append((number, size, value))
        assert len(done) == min(4, number + 1 + gpu), "a GPU has its next step before a loss is looked at"
    assert seen == [(n, 10 + n, float(n)) for n in range(4)]


@pytest.mark.parametrize("gpu", [False, True])
def test_a_loss_that_is_not_finite_is_that_of_its_step(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    if gpu:
        late(monkeypatch)
    values = [1.0, math.nan, 2.0]
    found = list(losses(ALONE, epoch(3), lambda number, _: torch.tensor(values[number])))
    assert [number for number, _, value in found if not math.isfinite(value)] == [1]


def test_the_error_of_reading_comes_with_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    late(monkeypatch)
    error = DataError("E081", "the image cannot be read")
    with pytest.raises(DataError, match="cannot be read"):
        list(losses(ALONE, epoch(3, error), lambda *_: torch.tensor(math.nan)))
