"""Training on any map-style torch dataset: its items, its held-out test set, and what is refused."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from bcgraph import data, weights
from bcgraph.compiler.export import provenance
from bcgraph.data.split import Splits
from bcgraph.data.torch_dataset import from_torch
from bcgraph.errors import DataError, RunError
from bcgraph.schema import DataSpec, NetworkSpec, TrainSpec
from bcgraph.training import Event, Step, train
from tests.training.nets import plain

SPEC = plain(steps=2, train=TrainSpec(epochs=2), data=DataSpec(name="digits", batch=200))


def digits(spec: NetworkSpec = SPEC) -> tuple[TensorDataset, TensorDataset]:
    """Both parts of our own digits as torch datasets, in the same order."""
    found = data.load(spec.data, spec.input, spec.steps)
    axis = 1 if found.train.inputs.dim() == 5 else 0
    return tuple(TensorDataset(part.inputs.movedim(axis, 0), part.labels) for part in (found.train, found.test))  # type: ignore[return-value]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return weights.load(folder / "last.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("sequence", [False, True])
def test_equals_our_own_data_to_the_bit(tmp_path: Path, sequence: bool) -> None:
    name = "digits_rows" if sequence else "digits"
    spec = plain(steps=2, sequence=sequence, train=TrainSpec(epochs=2), data=DataSpec(name=name, batch=200))
    ours = train(spec, out=tmp_path / "ours", seed=3)
    theirs = train(spec, digits(spec), out=tmp_path / "pair", seed=3)
    train(spec, *digits(spec), out=tmp_path / "two", seed=3)
    assert [e.test_accuracy for e in ours.history] == [e.test_accuracy for e in theirs.history]
    assert equal(tensors(tmp_path / "ours"), tensors(tmp_path / "pair"))
    measured = [provenance.of_weights(tmp_path / run / "last.safetensors").accuracy for run in ("ours", "pair")]
    assert [each.data for each in measured if each is not None] == [name, "TensorDataset"]
    assert equal(tensors(tmp_path / "ours"), tensors(tmp_path / "two"))


class Squares(Dataset[tuple[Any, Any]]):
    """`count` items of the kind that `make` gives, labels in turn."""

    classes = tuple("abcdefghij")

    def __init__(self, make: Any, count: int = 100) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.make(index), index % 10


def bright(index: int) -> np.ndarray[Any, Any]:
    return np.full((1, 8, 8), index, dtype=np.uint8)


def parts(dataset: Any, test: Any = None) -> Splits:
    return Splits.of(from_torch(dataset, test, SPEC.input, SPEC.steps, 10)[0])


def test_a_fixed_fifth_of_each_class_is_held_out() -> None:
    found = parts(Squares(bright))
    assert (len(found.train), len(found.test)) == (80, 20)
    assert found.test.labels.bincount().tolist() == [2] * 10
    assert found.classes == tuple("abcdefghij")
    # uint8 is scaled to [0, 1].
    values = [(split.inputs[:, 0, 0, 0] * 255).round().int().tolist() for split in (found.train, found.test)]
    assert sorted(values[0] + values[1]) == list(range(100))
    assert values[1] == (parts(Squares(bright)).test.inputs[:, 0, 0, 0] * 255).round().int().tolist()


def noisy(index: int) -> torch.Tensor:
    """A sample with a random transform, which draws from the three generators."""
    return torch.rand(1, 8, 8) * random.random() + float(np.random.rand())


def test_random_transforms_follow_the_key_and_the_item() -> None:
    split = parts(Squares(noisy)).train
    x, _ = split.take([3, 4], key=1)
    assert torch.equal(x[[1]], split.take([4], key=1)[0])
    assert not torch.equal(x, split.take([3, 4], key=2)[0])
    assert torch.equal(split.take([3])[0], split.take([3])[0])
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    split.take([3, 4], key=1)
    assert torch.equal(torch.rand(1), expected)


def test_random_transforms_are_resumed_to_the_bit(tmp_path: Path) -> None:
    spec = plain(steps=2, train=TrainSpec(epochs=3), data=DataSpec(name="digits", batch=20))
    threads: set[threading.Thread] = set()

    def make(index: int) -> torch.Tensor:
        threads.add(threading.current_thread())
        return noisy(index)

    def stop(event: Event) -> None:
        if isinstance(event, Step) and (event.epoch, event.step) == (2, 2):
            raise KeyboardInterrupt

    train(spec, Squares(make), out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(spec, Squares(make), out=tmp_path / "run", progress=stop)
    torch.rand(7)
    train(spec, Squares(make), out=tmp_path / "run")
    assert equal(tensors(tmp_path / "run"), tensors(tmp_path / "whole"))
    assert threads == {threading.main_thread()}, "a thread would share torch's generator with dropout"


def test_other_data_do_not_resume_a_run(tmp_path: Path) -> None:
    train(SPEC, Squares(bright), out=tmp_path)
    train(SPEC, Squares(bright), out=tmp_path)
    with pytest.raises(RunError, match="labels: ") as caught:
        train(SPEC, Squares(bright, 90), out=tmp_path)
    assert caught.value.code == "E085"


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from ()


class Labels(Squares):
    """Labels of another kind."""

    def __init__(self, label: Any) -> None:
        super().__init__(bright)
        self.label = label

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return bright(index), self.label


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (Squares(lambda _: torch.zeros(3, 8, 8)), "item 0 of `Squares` has the shape [3, 8, 8]"),
        (Squares(lambda _: torch.zeros(1, 8, 8, dtype=torch.int64)), "has values of the type int64"),
        (
            Squares(lambda i: torch.full((1, 8, 8), float("nan") if i == 7 else 0.0)),
            "item 7 of `Squares` has values that",
        ),
        (Squares(lambda _: [[0.0]]), "has an x of the type `list`"),
        (Labels(10), "item 0 of `Labels` has the label 10, but the network has 10 outputs"),
        (Labels(-1), "has the label -1"),
        (Labels("three"), "has a label of the type `str`"),
        (Labels(torch.zeros(2)), "has a label of the type `Tensor`"),
        ([torch.zeros(1, 8, 8)] * 3, "item 0 of `list` is not a pair (x, y)"),
        (Stream(), "the dataset `Stream` has no length"),
        (Squares(bright, 0), "the dataset `Squares` is empty"),
        ((Squares(bright), Squares(bright, 0)), "the test dataset `Squares` is empty"),
        ((Squares(bright),) * 3, "neither a dataset nor a pair"),
    ],
)
def test_what_is_refused(tmp_path: Path, dataset: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        train(SPEC, dataset, out=tmp_path / "run")
    assert caught.value.code == "E081"
    assert caught.value.hint
    assert says in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_arguments_that_do_not_go_together(tmp_path: Path) -> None:
    splits = parts(Squares(bright))
    for arguments in ({"test": Squares(bright)}, {"dataset": Squares(bright), "splits": splits}):
        with pytest.raises(DataError) as caught:
            train(SPEC, out=tmp_path / "run", **arguments)  # type: ignore[arg-type]
        assert caught.value.code == "E081"
        assert not (tmp_path / "run").exists()
