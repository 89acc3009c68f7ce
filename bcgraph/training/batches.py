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
from random import Random

import numpy as np
import torch
from torch import Tensor

from bcgraph import keys
from bcgraph.data.prefetch import prefetched
from bcgraph.data.split import Split
from bcgraph.errors import BcgraphError
from bcgraph.schema import NetworkSpec, SequenceInput
from bcgraph.training.distributed.process_group import ProcessGroup, on_every_rank


@dataclass(frozen=True, eq=False)
class Batch:
    """This process's share of a batch: x `[n, C, H, W]` or `[T, n, C, H, W]`, y `[n]`.

    `size` is that of the whole batch. With an `error`, reading has failed and the samples are zeros. Where samples are
    mixed, x holds the mixtures, and `partners` `[n]` are the labels of what each was mixed with; y counts by `share`.
    """

    x: Tensor
    y: Tensor
    size: int
    error: BcgraphError | None = None
    partners: Tensor | None = None
    share: float = 1.0


def batches(
    spec: NetworkSpec, split: Split, group: ProcessGroup, key: int, *, drop_last: bool, mixup: float = 0.0
) -> AbstractContextManager[Iterator[Batch]]:
    """The shuffled batches of an epoch, `spec.data.batch` samples each, of which each process reads its share.

    Every process sees the same number of batches. A single process raises the BcgraphError of reading; of several, the
    one that fails gives zeros from there on, and `losses` raises its error in all of them. With `mixup` above 0 each
    sample is mixed with another of its batch, with a share drawn from Beta(mixup, mixup) (Zhang et al. 2018).
    """
    read = _read(spec, split, group, key, drop_last, mixup)
    return nullcontext(read) if split.needs_main_thread else prefetched(read)


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


def _read(
    spec: NetworkSpec, split: Split, group: ProcessGroup, key: int, drop_last: bool, mixup: float
) -> Iterator[Batch]:
    size, rank, world = spec.data.batch, group.global_rank, group.world_size
    error: BcgraphError | None = None
    for number, whole in enumerate(split.orders(size, key, drop_last)):
        mine = slice(len(whole) * rank // world, len(whole) * (rank + 1) // world)
        batch = Batch(*_zeros(spec, mine.stop - mine.start), len(whole), error)
        if error is None:
            try:
                batch = Batch(*split.take(whole[mine], key), len(whole))
                if mixup:
                    batch = _mixed(batch, split, whole, mine, key, keys.rng(key, "mixup", number), spec, mixup)
            except BcgraphError as caught:
                if world == 1:
                    raise
                error = caught
                batch = replace(batch, error=error)
        if error is not None and mixup:
            # Of the same kind as the shares of the other processes.
            batch = replace(batch, partners=batch.y)
        if group.device.type == "cuda":
            partners = None if batch.partners is None else batch.partners.pin_memory()
            batch = replace(batch, x=batch.x.pin_memory(), y=batch.y.pin_memory(), partners=partners)
        yield batch


def _mixed(
    batch: Batch, split: Split, whole: list[int], mine: slice, key: int, rng: Random, spec: NetworkSpec, mixup: float
) -> Batch:
    """The batch with each sample mixed with another of the whole batch, which another process may have."""
    share = rng.betavariate(mixup, mixup)
    partners = list(range(len(whole)))
    rng.shuffle(partners)
    axis = 1 if isinstance(spec.input, SequenceInput) else 0
    if len(batch.y) == len(whole):
        # By numpy: a thread that reads ahead must not start torch's threads beside those that train.
        others, labels = np.take(batch.x.numpy(), partners, axis=axis), batch.y.numpy()[partners]
    else:
        found, named = split.take([whole[place] for place in partners[mine]], key)
        others, labels = found.numpy(), named.numpy()
    mixed = np.float32(share) * batch.x.numpy() + np.float32(1 - share) * others
    return replace(batch, x=torch.from_numpy(mixed), partners=torch.from_numpy(labels), share=share)


def _zeros(spec: NetworkSpec, number: int) -> tuple[Tensor, Tensor]:
    frame = spec.input.shape
    shape = (spec.steps, number, *frame) if isinstance(spec.input, SequenceInput) else (number, *frame)
    zeros = torch.zeros(shape, dtype=torch.float32, device="cpu")
    return zeros, torch.zeros(number, dtype=torch.long, device="cpu")
