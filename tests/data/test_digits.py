"""The embedded data set, its fixed split, and loading by name."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bcgraph import data
from bcgraph.data import catalog
from bcgraph.data.readers import digits
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, ImageInput, InputSpec, SequenceInput


def load(name: str, form: InputSpec, steps: int = 8) -> data.Splits:
    return data.load(DataSpec(name=name), form, steps)


def test_split_is_fixed_and_balanced() -> None:
    labels = load_digits().target.astype(np.int64)
    kept = digits._split()
    assert kept["train"] == digits.make_split(labels, kept["seed"])
    assert len(kept["train"]) == 1200
    splits = load("digits", ImageInput(1, 8, 8))
    assert len(splits.train) == 1200
    assert len(splits.test) == 597
    assert torch.bincount(splits.train.labels).tolist() == [120] * 10
    assert splits.classes == tuple("0123456789")


def test_images_are_the_scaled_originals() -> None:
    found = load_digits()
    chosen = digits._split()["train"]
    splits = load("digits", ImageInput(1, 8, 8))
    assert splits.train.inputs.shape == (1200, 1, 8, 8)
    expected = torch.tensor(found.images[chosen][:, None] / 16, dtype=torch.float32)
    assert torch.equal(splits.train.inputs, expected)
    assert (splits.mean, splits.std) == ((0.0,), (1.0,))


def test_frame_t_is_row_t() -> None:
    images = load("digits", ImageInput(1, 8, 8)).test.inputs
    rows = load("digits_rows", SequenceInput(1, 1, 8)).test.inputs
    assert rows.shape == (8, 597, 1, 1, 8)
    for t in range(8):
        assert torch.equal(rows[t, :, 0, 0], images[:, 0, t])


@pytest.mark.parametrize(
    ("name", "form", "steps", "says"),
    [
        ("digits", ImageInput(3, 32, 32), 4, "image(1, 8, 8), but the network takes image(3, 32, 32)"),
        ("digits", SequenceInput(1, 8, 8), 4, "but the network takes sequence(1, 8, 8)"),
        ("digits_rows", ImageInput(1, 8, 8), 8, "sequence(1, 1, 8), but the network takes image(1, 8, 8)"),
        ("digits_rows", SequenceInput(1, 1, 8), 4, "has 8 frames, but the network takes 4 steps"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, form: InputSpec, steps: int, says: str) -> None:
    with pytest.raises(DataError) as caught:
        load(name, form, steps)
    assert caught.value.code == "E081"
    assert says in str(caught.value)
    assert caught.value.hint is not None


def test_unknown_name() -> None:
    with pytest.raises(DataError) as caught:
        load("digit", ImageInput(1, 8, 8))
    assert caught.value.code == "E080"
    assert caught.value.hint == "did you mean `digits`?"
    with pytest.raises(DataError) as caught:
        load("xyz", ImageInput(1, 8, 8))
    assert "digits_rows" in str(caught.value.hint)


def test_other_digits_than_the_split_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "digest", lambda *_: "other")
    digits._read.cache_clear()
    with pytest.raises(DataError) as caught:
        load("digits", ImageInput(1, 8, 8))
    assert caught.value.code == "E081"


@pytest.mark.parametrize("name", ["digits", "digits_rows"])
def test_arrays_hold_what_training_sees(name: str) -> None:
    form, steps = catalog._asked(name, None, None)
    splits = data.load(DataSpec(name=name), form, steps)
    for part in ("train", "test"):
        arrays = data.arrays(name, part=part)
        split = getattr(splits, part)
        assert arrays.inputs.dtype == np.float32
        assert arrays.inputs.flags.c_contiguous
        assert np.array_equal(arrays.inputs, split.inputs.numpy())
        assert np.array_equal(arrays.labels, split.labels.numpy())
        assert arrays.classes == splits.classes


def test_arrays_need_no_torch_and_no_scikit_learn() -> None:
    program = (
        "import sys, bcgraph.data as data\n"
        "assert len(data.arrays('digits').labels) == 597\n"
        "assert not {'torch', 'sklearn', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_scikit_learn_is_imported_only_where_its_file_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for kept, loaded in zip(digits._kept() or (), digits._loaded(), strict=True):
        assert kept.dtype == loaded.dtype
        assert np.array_equal(kept, loaded)
    before = digits._read()
    moved = ModuleSpec("sklearn", None, origin="/nowhere/sklearn/__init__.py")
    monkeypatch.setattr(digits, "find_spec", lambda _: moved)
    digits._read.cache_clear()
    assert np.array_equal(digits._read()[0], before[0])
