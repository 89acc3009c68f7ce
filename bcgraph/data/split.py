"""The parts of a data set as torch sees them: batches in a keyed order, with keyed augmentation.

No generator state is kept: the order of an epoch and the change of each sample follow from one key, so a resumed
run draws what the interrupted one would have drawn, whatever the batch size or the number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from bcgraph import keys
from bcgraph.data.sources import DataSet, Held, Integers, Part, RandomSamples
from bcgraph.errors import DataError

Batch: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set, or some of it.

    `chosen` are the indices into the part, in the order in which they are read without a key. `augmented` says
    whether batches that are drawn with a key are augmented.
    """

    source: DataSet
    part: Part
    chosen: Integers
    augmented: bool = False

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def labels(self) -> Tensor:
        """The labels `[N]`, int64."""
        return torch.from_numpy(self.part.labels[self.chosen])

    @property
    def inputs(self) -> Tensor:
        """All inputs, `[N, C, H, W]` or `[T, N, C, H, W]`; for data sets that fit into memory."""
        return self.take(range(len(self)))[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; a label is an index into them."""
        return self.source.classes

    @property
    def needs_main_thread(self) -> bool:
        """Whether drawing a batch uses torch or its global generator, which a thread must not beside training."""
        bound = any(getattr(change, "torch_bound", False) for change in self.source.augment)
        return isinstance(self.part.samples, RandomSamples) or (self.augmented and bound)

    def take(self, indices: Sequence[int] | Integers, key: int | None = None) -> Batch:
        """The samples at `indices` (into this split), normalized: x `[n, C, H, W]` or `[T, n, C, H, W]`, y `[n]`.

        With a key, the random transforms of the samples follow it, and where the split is augmented each sample is
        changed as its own key decides.
        """
        members = self.chosen[np.asarray(indices, dtype=np.int64)]
        source = self.part.samples
        if key is not None and isinstance(source, RandomSamples):
            samples = source.draw(members, key)
        else:
            samples = source.take(members)
        if key is not None and self.augmented:
            own = [keys.derive(key, "augment", int(member)) for member in members] if self.source.augment else []
            for change in self.source.augment:
                samples = change(samples, list(own))
        return torch.from_numpy(self.source.batch(samples)), torch.from_numpy(self.part.labels[members])

    def batches(
        self, size: int, key: int | None = None, drop_last: bool = False, share: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """The split in batches of `size`: in its own order, or with a key shuffled (and augmented) by the key.

        Each sample comes once; the last batch may be smaller, or is left out with `drop_last`. With
        `share = (rank, world)` each batch is divided, and only the part of process `rank` is read; `size` remains that
        of the whole batch.
        """
        rank, world = share
        for batch in self.orders(size, key, drop_last):
            yield self.take(batch[len(batch) * rank // world : len(batch) * (rank + 1) // world], key)

    def orders(self, size: int, key: int | None = None, drop_last: bool = False) -> Iterator[list[int]]:
        """The indices of the samples of each whole batch of `batches`."""
        order = self._order(key)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            if drop_last and len(batch) < size:
                return
            yield batch

    def steps(self, size: int, drop_last: bool = False) -> int:
        """Number of batches that `batches` yields."""
        return len(self) // size if drop_last else -(-len(self) // size)

    def subset(self, indices: Sequence[int] | Integers) -> Self:
        """The samples at `indices` as a split of its own."""
        return replace(self, chosen=self.chosen[np.asarray(indices, dtype=np.int64)])

    def plain(self) -> Self:
        """The same samples without augmentation."""
        return replace(self, augmented=False)

    def alone(self) -> Self:
        """The same samples, not augmented, without the rest of a data set that is held in memory: smaller to send."""
        samples = self.part.samples
        if not isinstance(samples, Held):
            return self.plain()
        part = Part(replace(samples, data=samples.data[self.chosen]), self.part.labels[self.chosen])
        source = replace(self.source, train=part, test=part, augment=())
        return replace(self, source=source, part=part, chosen=np.arange(len(self)), augmented=False)

    def divide(self, fraction: float, key: int) -> tuple[Self, Self]:
        """Two splits, the first with about `fraction` of each class, drawn by `key`, the second with the rest.

        The search divides the training part 8:2 (paper 5.1); the second, for validation, is not augmented.
        """
        first: list[int] = []
        for label, members in enumerate(self._by_class()):
            drawn = list(members)
            keys.rng(key, "divide", label).shuffle(drawn)
            first += drawn[: round(fraction * len(drawn))]
        rest = np.setdiff1d(np.arange(len(self)), first)
        return self.subset(sorted(first)), self.subset(rest).plain()

    def balanced(self, size: int, key: int) -> Batch:
        """A batch of `size` samples, as evenly from all classes as `size` allows, drawn by `key`, not augmented.

        Raises DataError (E081) when there are not enough samples.
        """
        if size > len(self):
            raise DataError("E081", f"a batch of {size} cannot be drawn from {len(self)} samples")
        return self.take(self._evenly(size, key))

    def few(self, size: int, key: int) -> Self:
        """`size` samples as a split of their own, as evenly from all classes as they allow, drawn by `key`.

        Raises DataError (E081) when there are not enough.
        """
        if size > len(self):
            problem = f"{size:,} samples are asked for of a part of `{self.source.name}` that has {len(self):,}"
            raise DataError("E081", problem, hint="leave the number out, and all are taken")
        return self.subset(self._evenly(size, key))

    def _evenly(self, size: int, key: int) -> list[int]:
        queues = []
        for label, members in enumerate(self._by_class()):
            drawn = list(members)
            keys.rng(key, "balanced", label).shuffle(drawn)
            queues.append(drawn)
        keys.rng(key, "balanced", "classes").shuffle(queues)
        longest = max(len(queue) for queue in queues)
        turns = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
        return sorted(turns[:size])

    def _by_class(self) -> list[list[int]]:
        labels = self.part.labels[self.chosen]
        return [[int(i) for i in np.flatnonzero(labels == label)] for label in range(len(self.classes))]

    def _order(self, key: int | None) -> list[int]:
        order = list(range(len(self)))
        if key is not None:
            keys.rng(key, "order").shuffle(order)
        return order


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set for training: two parts, the names of the classes, and the normalization by channel.

    `held_out` says what the second part is: `test`, or `validation` where a search divides the training data.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    held_out: str = "test"

    @staticmethod
    def of(source: DataSet, *, augment: bool = True) -> Splits:
        """Both parts of `source`; with `augment` the training part is changed as `source` says."""
        train = Split(source, source.train, np.arange(len(source.train.labels)), augmented=augment)
        test = Split(source, source.test, np.arange(len(source.test.labels)))
        return Splits(train, test, source.classes, source.mean, source.std)
