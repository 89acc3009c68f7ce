"""The batches of an epoch, and the losses of the train steps that they make.

A batch is read ahead by a thread. Neither reading a batch nor looking at a loss needs a collective of its own: an error
of one process reaches the others with the loss, and on a GPU a loss is looked at one step late.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from bcgraph.data.prefetch import prefetched
from bcgraph.data.sources import RandomSamples
from bcgraph.data.split import Split
from bcgraph.errors import BcgraphError
from bcgraph.schema import NetworkSpec, SequenceInput
from bcgraph.training.distributed.process_group import ProcessGroup, on_every_rank


@dataclass(frozen=True, eq=False)
class Batch:
    """This process's share of a batch: x `[n, C, H, W]` or `[T, n, C, H, W]`, y `[n]`.

    `size` is that of the whole batch. With an `error`, reading has failed and the samples are zeros.
    """

    x: Tensor
    y: Tensor
    size: int
    error: BcgraphError | None = None


def batches(
    spec: NetworkSpec, split: Split, group: ProcessGroup, key: int, *, drop_last: bool
) -> AbstractContextManager[Iterator[Batch]]:
    """The shuffled batches of an epoch, `spec.data.batch` samples each, of which each process reads its share.

    Every process sees the same number of batches. A single process raises the BcgraphError of reading; of several, the
    one that fails gives zeros from there on, and `losses` raises its error in all of them.
    """
    read = _read(spec, split, group, key, drop_last)
    # Samples with random transforms use torch's global generator, which a thread must not do beside dropout.
    return nullcontext(read) if isinstance(split.part.samples, RandomSamples) else prefetched(read)


def losses(
    group: ProcessGroup, epoch: Iterator[Batch], update: Callable[[int, Batch], Tensor]
) -> Iterator[tuple[int, int, float]]:
    """Call `update` with each batch and its number from 0; yields number, batch size and loss, in order.

    `update` returns the mean loss over the whole batch, a scalar tensor that is equal in all processes. On a GPU
    its value comes one step late, so that the GPU need not wait. Raises the BcgraphError of a process that could not
    read its share, in all processes.
    """
    on_the_way: deque[_Loss] = deque()
    for number, batch in enumerate(epoch):
        on_the_way.append(_Loss.of(number, batch, update(number, batch)))
        while on_the_way and len(on_the_way) > on_the_way[0].lag:
            yield _looked_at(group, on_the_way.popleft())
    while on_the_way:
        yield _looked_at(group, on_the_way.popleft())


@dataclass(frozen=True, eq=False)
class _Loss:
    """A loss on its way from the device; `event` says when it has arrived."""

    number: int
    size: int
    error: BcgraphError | None
    value: Tensor
    event: torch.cuda.Event | None = None

    @staticmethod
    def of(number: int, batch: Batch, value: Tensor) -> _Loss:
        found = _Loss(number, batch.size, batch.error, value)
        if not value.is_cuda:
            return found
        host = torch.empty((), dtype=value.dtype, device="cpu", pin_memory=True)
        host.copy_(value, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return replace(found, value=host, event=event)

    @property
    def lag(self) -> int:
        return 0 if self.event is None else 1


def _looked_at(group: ProcessGroup, loss: _Loss) -> tuple[int, int, float]:
    if loss.event is not None:
        loss.event.synchronize()
    value = float(loss.value)
    if not math.isfinite(value):
        # It may be that of a process without its batch.
        on_every_rank(group, partial(_raise, loss.error))
    return loss.number, loss.size, value


def _raise(error: BcgraphError | None) -> None:
    if error is not None:
        raise error


def _read(spec: NetworkSpec, split: Split, group: ProcessGroup, key: int, drop_last: bool) -> Iterator[Batch]:
    size, rank, world = spec.data.batch, group.global_rank, group.world_size
    items = split.batches(size, key, drop_last, (rank, world))
    error: BcgraphError | None = None
    for number in range(split.steps(size, drop_last)):
        whole = min(size, len(split) - number * size)
        if error is None:
            try:
                x, y = next(items)
            except BcgraphError as caught:
                if world == 1:
                    raise
                error = caught
        if error is not None:
            x, y = _zeros(spec, whole * (rank + 1) // world - whole * rank // world)
        if group.device.type == "cuda":
            x, y = x.pin_memory(), y.pin_memory()
        yield Batch(x, y, whole, error)


def _zeros(spec: NetworkSpec, number: int) -> tuple[Tensor, Tensor]:
    frame = spec.input.shape
    shape = (spec.steps, number, *frame) if isinstance(spec.input, SequenceInput) else (number, *frame)
    zeros = torch.zeros(shape, dtype=torch.float32, device="cpu")
    return zeros, torch.zeros(number, dtype=torch.long, device="cpu")
