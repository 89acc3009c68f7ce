"""Any map-style torch `Dataset` as a data set: items (x, y), in the shape that a network takes."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from bcgraph import keys, shapes
from bcgraph.data import declaration, generators
from bcgraph.data.policies import changes
from bcgraph.data.sources import DataSet, Floats, Integers, Part
from bcgraph.data.split import Split, Splits
from bcgraph.errors import DataError
from bcgraph.schema import InputSpec, NetworkSpec, SequenceInput

TRAIN_SHARE = 0.8
"""The share of a dataset that is trained on when no test set is given."""


class MapDataset(Protocol):
    """What is used of `torch.utils.data.Dataset`: its length and its items (x, y)."""

    def __len__(self) -> int:
        """The number of items."""

    def __getitem__(self, index: int, /) -> Any:
        """An item (x, y): x a tensor or numpy array, y an int."""


Given: TypeAlias = MapDataset | tuple[MapDataset, MapDataset]


@dataclass(frozen=True, eq=False)
class DatasetSamples:
    """The samples of a torch dataset at `members`, read one by one whenever they are asked for.

    `shape` is `(C, H, W)` or `(T, C, H, W)`. uint8 is scaled to [0, 1]; floats are taken as they are.
    """

    dataset: MapDataset
    members: Integers
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.members)

    def take(self, indices: Integers) -> Floats:
        """The samples at `indices`, `[n, C, H, W]` or `[n, T, C, H, W]`, always with the same random transforms."""
        return self.draw(indices, 0)

    def draw(self, indices: Integers, key: int) -> Floats:
        """As `take`, with random transforms that follow from `key` and the item. Raises DataError (E081)."""
        drawn = np.empty((len(indices), *self.shape), dtype=np.float32)
        with generators.restored():
            for row, index in enumerate(indices):
                member = int(self.members[index])
                drawn[row], _ = _item(self.dataset, member, self.shape, key)
        return drawn


def of(spec: NetworkSpec, dataset: Given, test: MapDataset | None = None) -> Splits:
    """Both parts of `dataset`, any map-style torch `Dataset` or a pair (train, test), for the network of `spec`.

    Its items are (x, y): x `[C, H, W]`, for a sequence `[T, C, H, W]`, a tensor or numpy array of floats, taken as they
    are, or of uint8, scaled to [0, 1]; y an int below the number of outputs. Without `test`, a fixed 20 % of each class
    are held out, the same for every seed. Every item is read once and checked, then again whenever it is asked for.
    The training part is changed as the settings of `spec.data` say. Raises DataError (E081).
    """
    return identified(spec, dataset, test)[0]


def identified(spec: NetworkSpec, dataset: Given, test: MapDataset | None = None) -> tuple[Splits, dict[str, str]]:
    """As `of`, with what identifies the data in a run: the class of the dataset and a digest of its labels."""
    declaration.check_changes(spec.data, spec.input)
    source, identity = from_torch(dataset, test, spec.input, spec.steps, shapes.outputs(spec))
    return Splits.of(replace(source, augment=changes(spec.data, source))), identity


def from_torch(
    given: Given, test: MapDataset | None, form: InputSpec, steps: int, classes: int | None
) -> tuple[DataSet, dict[str, str]]:
    """The data set of `given`, a dataset or a pair (train, test), for a network with this input and `classes` outputs.

    With None there are as many classes as the labels say.

    Without a test set, a fixed 20 % of each class are held out, the same for every seed. Every item is read once and
    checked. Returns it with what identifies it in a checkpoint: its class and a digest of its labels.

    Raises DataError (E081) for items of another form, values that are not finite, labels out of range, no length.
    """
    if isinstance(given, tuple):
        if len(given) != 2 or test is not None:
            raise DataError("E081", "the data are neither a dataset nor a pair", hint="give (train, test)")
        given, test = given
    frame = form.shape
    shape = (steps, *frame) if isinstance(form, SequenceInput) else frame
    name = type(given).__name__
    train = _part(given, "dataset", shape, classes)
    held_out = None if test is None else _part(test, "test dataset", shape, classes)
    if classes is None:
        classes = 1 + max(int(part.labels.max()) for part in (train, held_out) if part is not None)
    names = _classes(given, classes)

    def data_set(train: Part, test: Part) -> DataSet:
        channels = form.channels
        return DataSet(name, train, test, names, (0.0,) * channels, (1.0,) * channels, form=form)

    if held_out is None:
        everything = Split(data_set(train, train), train, np.arange(len(train.labels)))
        parts = everything.divide(TRAIN_SHARE, keys.derive(0, "torch dataset", "test"))
        train, held_out = (_chosen(train, part.chosen) for part in parts)
    labels = hashlib.sha256(train.labels.tobytes() + b"|" + held_out.labels.tobytes())
    return data_set(train, held_out), {"data": name, "labels": labels.hexdigest()[:16]}


def _part(dataset: MapDataset, what: str, shape: tuple[int, ...], classes: int | None) -> Part:
    try:
        number = len(dataset)
    except (TypeError, NotImplementedError) as error:
        raise DataError(
            "E081",
            f"the {what} `{type(dataset).__name__}` has no length",
            hint="a map-style dataset has `__len__` and `__getitem__`",
        ) from error
    if number == 0:
        raise DataError("E081", f"the {what} `{type(dataset).__name__}` is empty", hint="give at least two samples")
    labels = np.empty(number, dtype=np.int64)
    with generators.restored():
        for index in range(number):
            _, label = _item(dataset, index, shape, 0)
            if classes is None and label < 0:
                hint = "labels run from 0"
                raise DataError("E081", f"item {index} of `{type(dataset).__name__}` has the label {label}", hint=hint)
            if classes is not None and not 0 <= label < classes:
                raise DataError(
                    "E081",
                    f"item {index} of `{type(dataset).__name__}` has the label {label}, but the network has {classes} "
                    "outputs",
                    hint=f"labels run from 0 to {classes - 1}",
                )
            labels[index] = label
    return Part(DatasetSamples(dataset, np.arange(number), shape), labels)


def _chosen(part: Part, chosen: Integers) -> Part:
    samples = part.samples
    assert isinstance(samples, DatasetSamples)
    return Part(DatasetSamples(samples.dataset, samples.members[chosen], samples.shape), part.labels[chosen])


def _item(dataset: MapDataset, index: int, shape: tuple[int, ...], key: int) -> tuple[Floats, int]:
    """Item `index` as a float32 array and a label, drawn by `key`. Raises DataError (E081) for another form."""
    generators.seed(keys.derive(key, "item", index))
    item = dataset[index]

    def wrong(problem: str, hint: str) -> DataError:
        return DataError("E081", f"item {index} of `{type(dataset).__name__}` {problem}", hint=hint)

    pair = "an item is (x, y): a tensor or numpy array, and an int"
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise wrong("is not a pair (x, y)", pair)
    x, y = item
    x = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x
    if not isinstance(x, np.ndarray):
        raise wrong(f"has an x of the type `{type(x).__name__}`", "convert it, for instance by torchvision's ToTensor")
    if x.shape != shape:
        raise wrong(f"has the shape {list(x.shape)}", f"the network takes {list(shape)}")
    if x.dtype == np.uint8:
        values = x.astype(np.float32) * np.float32(1 / 255)
    elif np.issubdtype(x.dtype, np.floating):
        values = x.astype(np.float32)
    else:
        raise wrong(f"has values of the type {x.dtype}", "values are floats, or uint8 from 0 to 255")
    if not np.isfinite(values).all():
        raise wrong("has values that are not finite", "remove the sample, or replace them")
    try:
        return values, operator.index(y)
    except (TypeError, ValueError, RuntimeError):
        raise wrong(f"has a label of the type `{type(y).__name__}`", pair) from None


def _classes(dataset: MapDataset, classes: int) -> tuple[str, ...]:
    """The names of the classes, where the dataset has them in the way of torchvision."""
    names = getattr(dataset, "classes", None)
    if isinstance(names, list | tuple) and len(names) == classes:
        return tuple(str(name) for name in names)
    return tuple(str(number) for number in range(classes))
