"""What a data set is to the rest of the package: samples, labels, classes, normalization, augmentation.

Everything up to the last conversion is numpy, so that `bcgraph run` needs no torch and both paths feed the same
numbers. Samples are `[C, H, W]` for an image data set and `[T, C, H, W]` for a sequence, float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bcgraph.errors import DataError
from bcgraph.normalization import Normalization
from bcgraph.schema import DataSpec, InputSpec, SequenceInput

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]


class Samples(Protocol):
    """Inputs by index, read when they are asked for."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def take(self, indices: Integers) -> Floats:
        """The samples at `indices`, `[n, C, H, W]` or `[n, T, C, H, W]`, before normalization."""
        ...


@runtime_checkable
class RandomSamples(Samples, Protocol):
    """Samples with random transforms of their own, which draw from global generators."""

    def draw(self, indices: Integers, key: int) -> Floats:
        """As `take`, with transforms that follow from `key` and the index alone. Leaves the generators as they were."""
        ...


class Augmentation(Protocol):
    """A random change of single samples, decided by one key a sample and by nothing else."""

    def __call__(self, samples: Floats, keys: list[int]) -> Floats:
        """`samples` `[n, ..., H, W]` changed as the n `keys` decide; the argument stays as it is."""
        ...


@dataclass(frozen=True, eq=False)
class Held:
    """Samples held in memory, as they are stored (often uint8), times `scale`."""

    data: NDArray[np.generic]
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.data)

    def take(self, indices: Integers) -> Floats:
        """The samples at `indices` as float32."""
        taken: Floats = self.data[indices].astype(np.float32)
        return taken if self.scale == 1.0 else taken * np.float32(self.scale)


@dataclass(frozen=True, eq=False)
class Part:
    """The training or the test part of a data set. Raises DataError (E081) when samples and labels differ in number."""

    samples: Samples
    labels: Integers

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.labels):
            raise DataError("E081", f"{len(self.samples)} samples come with {len(self.labels)} labels")


@dataclass(frozen=True, eq=False)
class DataSet:
    """A loaded data set. `mean` and `std` are by channel, in units of the samples; `augment` is for training only.

    `form` is the input of the network that it was read for; without one, samples of four axes are sequences.
    """

    name: str
    train: Part
    test: Part
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: tuple[Augmentation, ...] = ()
    form: InputSpec | None = None

    def prepare(self, samples: Floats) -> Floats:
        """`samples` `[..., C, H, W]` normalized by channel."""
        return self.normalization().normalized(samples)

    def normalization(self, inside: bool = False) -> Normalization:
        """What `prepare` does."""
        axes = 3 if self.form is None else len(self.form.shape)
        return Normalization(tuple(self.mean), tuple(self.std), inside, axes)

    def batch(self, samples: Floats, *, raw: bool = False) -> Floats:
        """`samples` `[n, ...]` as a network takes them: normalized unless `raw`, and of a sequence time first."""
        x = samples if raw else self.prepare(samples)
        sequence = samples.ndim == 5 if self.form is None else isinstance(self.form, SequenceInput)
        # By numpy: a thread that reads ahead must not start torch's threads beside those that train.
        return np.ascontiguousarray(x.swapaxes(0, 1)) if sequence else x


@dataclass(frozen=True)
class Request:
    """What a network asks of a data set: where it lies, the shape of one frame, whether frames are steps.

    `data` are all settings of the data set.
    """

    root: Path
    shape: tuple[int, ...]
    sequence: bool
    steps: int
    data: DataSpec = field(default_factory=DataSpec)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame. Raises ValueError where it is no image."""
        _, height, width = self.shape
        return height, width


Loader: TypeAlias = Callable[[Request], DataSet]
