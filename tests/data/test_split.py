"""Batches in keyed order, subsets, divisions, balanced batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bcgraph import data
from bcgraph.data.sources import DataSet, Floats, Held, Part
from bcgraph.data.split import Split, Splits
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, ImageInput, SequenceInput


def number(samples: Floats, keys: list[int]) -> Floats:
    """An augmentation that shows its keys: each sample is filled with a number made of its key."""
    assert len(samples) == len(keys)
    filled = np.zeros_like(samples)
    filled += np.array([key % 1000 for key in keys], dtype=np.float32)[:, None, None, None]
    return filled


def source(count: int = 23, classes: int = 3) -> DataSet:
    images = np.arange(count * 4, dtype=np.float32).reshape(count, 1, 2, 2)
    labels = np.arange(count, dtype=np.int64) % classes
    part = Part(Held(images), labels)
    return DataSet("made", part, part, tuple("abc"[:classes]), (1.0,), (2.0,), (number,))


@pytest.fixture
def split() -> Split:
    return Splits.of(source()).test


def ids(x: torch.Tensor) -> list[int]:
    return ((x[:, 0, 0, 0] * 2 + 1) / 4).round().int().tolist()


def test_normalized_in_order_without_a_key(split: Split) -> None:
    batches = list(split.batches(5))
    assert [len(y) for _, y in batches] == [5, 5, 5, 5, 3]
    assert split.steps(5) == 5
    assert split.steps(5, drop_last=True) == len(list(split.batches(5, drop_last=True))) == 4
    x = torch.cat([x for x, _ in batches])
    assert torch.equal(x, (torch.arange(92.0).reshape(23, 1, 2, 2) - 1) / 2)
    assert torch.cat([y for _, y in batches]).tolist() == [i % 3 for i in range(23)]


def test_a_key_fixes_the_order(split: Split) -> None:
    def drawn(key: int) -> list[int]:
        return [i for x, _ in split.batches(5, key) for i in ids(x)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert sorted(drawn(1)) == list(range(23))
    assert drawn(1) == [i for x, _ in split.batches(23, 1) for i in ids(x)]
    for x, y in split.batches(5, 1):
        assert y.tolist() == [i % 3 for i in ids(x)]


def test_shares_make_up_the_batch(split: Split) -> None:
    whole = list(split.batches(5, 7))
    for world in (2, 3):
        parts = [list(split.batches(5, 7, share=(rank, world))) for rank in range(world)]
        for number_, (x, y) in enumerate(whole):
            assert torch.equal(torch.cat([part[number_][0] for part in parts]), x)
            assert torch.equal(torch.cat([part[number_][1] for part in parts]), y)


def test_augmentation_follows_the_sample_and_the_key() -> None:
    train = Splits.of(source()).train
    indices = list(range(23))
    one, _ = train.take(indices, key=3)
    assert torch.equal(one, train.take(indices, key=3)[0])
    assert not torch.equal(one, train.take(indices, key=4)[0])
    # The change of a sample depends neither on its batch nor on its place in a subset.
    assert torch.equal(train.take([9, 4], key=3)[0], one[[9, 4]])
    assert torch.equal(train.subset([9, 4]).take([0, 1], key=3)[0], one[[9, 4]])
    assert torch.equal(train.take(indices)[0], train.plain().take(indices, key=3)[0])


def test_divide_keeps_classes_and_loses_nothing() -> None:
    train = Splits.of(source(30)).train
    first, second = train.divide(0.8, key=5)
    assert len(first) == 24
    assert torch.bincount(first.labels).tolist() == [8, 8, 8]
    assert sorted([*first.chosen, *second.chosen]) == list(range(30))
    assert first.augmented
    assert not second.augmented
    again, _ = train.divide(0.8, key=5)
    assert np.array_equal(first.chosen, again.chosen)
    assert not np.array_equal(first.chosen, train.divide(0.8, key=6)[0].chosen)


@pytest.mark.parametrize("size", [3, 7, 12, 23])
def test_balanced_batches(split: Split, size: int) -> None:
    x, y = split.balanced(size, key=1)
    counts = torch.bincount(y, minlength=3)
    assert len(set(ids(x))) == size
    assert counts.max() - counts.min() <= 1
    assert torch.equal(x, split.balanced(size, key=1)[0])


def test_balanced_with_too_few_samples(split: Split) -> None:
    with pytest.raises(DataError) as caught:
        split.balanced(24, key=1)
    assert caught.value.code == "E081"


def test_balanced_takes_more_of_large_classes_only_when_small_ones_are_used_up() -> None:
    made = source(12)
    part = replace(made.test, labels=np.array([0] * 9 + [1] * 2 + [2], dtype=np.int64))
    split = Splits.of(replace(made, train=part, test=part)).test
    _, y = split.balanced(6, key=0)
    assert torch.bincount(y).tolist() == [3, 2, 1]


def test_sequences_are_step_first() -> None:
    split = data.load(DataSpec(name="digits_rows"), SequenceInput(1, 1, 8), 8).train
    x, y = next(split.batches(16, key=0))
    assert x.shape == (8, 16, 1, 1, 8)
    assert x.is_contiguous()
    assert y.dtype == torch.int64


def test_parts_need_a_label_a_sample() -> None:
    with pytest.raises(DataError, match="3 samples come with 2 labels"):
        Part(Held(np.zeros((3, 1))), np.zeros(2, dtype=np.int64))


def test_stored_integers_are_scaled() -> None:
    held = Held(np.array([[0], [255]], dtype=np.uint8), 1 / 255)
    assert held.take(np.array([1, 0])).tolist() == [[1.0], [0.0]]


def test_so_many_samples_of_each_part() -> None:
    spec = DataSpec(train=200, test=51, batch=50)
    found = data.load(spec, ImageInput(1, 8, 8), 2)
    assert found.train.labels.bincount().tolist() == [20] * 10
    assert sorted(found.test.labels.bincount().tolist()) == [5] * 9 + [6]
    again = data.load(spec, ImageInput(1, 8, 8), 2)
    assert torch.equal(found.train.inputs, again.train.inputs)
    whole = data.load(DataSpec(), ImageInput(1, 8, 8), 2)
    assert torch.equal(found.train.inputs, whole.train.inputs[torch.from_numpy(found.train.chosen)])
    with pytest.raises(DataError, match="598 samples are asked for of a part of `digits` that has 597") as caught:
        data.load(DataSpec(test=598), ImageInput(1, 8, 8), 2)
    assert caught.value.code == "E081"
