"""Spoken words from small HDF5 files of the published format: counts by step and unit, and damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bcgraph import data
from bcgraph.data.readers import ears, frames
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, InputSpec, SequenceInput

h5py = pytest.importorskip("h5py", reason="the extra `tonic` is not installed")


def write(path: Path, words: list[tuple[list[float], list[int]]], labels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, column, dtype in (("times", 0, np.float16), ("units", 1, np.uint16)):
            made = file.create_dataset(f"spikes/{name}", (len(words),), dtype=h5py.vlen_dtype(dtype))
            for number, word in enumerate(words):
                made[number] = np.array(word[column], dtype=dtype)
        file["labels"] = np.array(labels, dtype=np.uint16)


WORDS = [([0.0, 0.69, 0.75, 3.0], [0, 4, 5, 699]), ([0.1, 0.2, 0.3], [7, 7, 8])]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for name in ("shd", "ssc"):
        for part in ("train", "test"):
            write(tmp_path / name.upper() / f"{name}_{part}.h5", WORDS, [3, 19])
    return tmp_path


def load(name: str, root: Path, form: InputSpec | None = None, steps: int = 2) -> data.Splits:
    return data.load(DataSpec(name=name, root=str(root)), form or SequenceInput(700), steps)


def test_counts_by_step_and_unit(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = load("shd", made)
    assert splits.test.labels.tolist() == [3, 19]
    assert len(splits.classes) == 20
    expected = torch.zeros(2, 2, 700)
    expected[0, 0, [0, 4]] = 1
    expected[1, 0, [5, 699]] = 1
    expected[0, 1, 7], expected[0, 1, 8] = 2, 1
    assert torch.equal(splits.test.inputs, expected)
    pooled = load("shd", made, SequenceInput(1, 1, 140)).test.inputs
    assert torch.equal(pooled[:, :, 0, 0], expected.reshape(2, 2, 140, 5).sum(3))
    # A word of the other set lasts a second.
    assert load("ssc", made).test.inputs[:, 0].sum(1).tolist() == [1, 3]
    for path in made.rglob("*.h5"):
        assert len(list(path.parent.glob(f"{path.stem}_v1_T2_700.npy"))) == 1
    monkeypatch.setattr(frames, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="needs `h5py`"):
        load("shd", made, steps=3)


@pytest.mark.parametrize(
    ("words", "labels", "says"),
    [
        (WORDS, [3], "1 labels come with 2 and 2 lists"),
        (WORDS, [3, 20], "a label is not in 0 to 19"),
        ([WORDS[0], ([0.1], [1, 2])], [3, 4], "word 1 has 1 times and 2 units"),
        ([WORDS[0], ([float("nan")], [1])], [3, 4], "word 1 has a spike at no time"),
        ([WORDS[0], ([0.5], [700])], [3, 4], "of no unit from 0 to 699"),
    ],
)
def test_words_that_cannot_be(made: Path, words: Any, labels: list[int], says: str) -> None:
    write(made / "SHD/shd_test.h5", words, labels)
    refused(made, says, "`shd_test.h5` is damaged")
    assert not list((made / "SHD").glob("shd_test_v1*"))


def refused(root: Path, *says: str, form: InputSpec | None = None) -> None:
    with pytest.raises(DataError) as caught:
        load("shd", root, form)
    assert caught.value.code == "E081"
    for text in says:
        assert text in str(caught.value)


def test_missing_or_cut_off(made: Path, tmp_path: Path) -> None:
    refused(tmp_path / "no", "`shd_train.h5` is missing", "https://zenkelab.org")
    refused(made, "700 units, which 3 features do not divide", form=SequenceInput(3))
    path = made / "SHD/shd_train.h5"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"rubbish"):
        path.write_bytes(content)
        refused(made, "`shd_train.h5` is damaged", str(path))
    with h5py.File(path, "w") as file:
        file["labels"] = np.zeros(2)
    refused(made, "`shd_train.h5` is damaged")


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("labels", np.array([3.7, 19.0]), "type float64"),
        ("labels", np.array([[3], [19]]), "shape [2, 1]"),
        ("spikes/times", np.array([[1, 2], [3, 4]]), "times of the type int64"),
        ("spikes/units", np.array([[0.5, 1.0], [2.0, 3.0]]), "units of the type float64"),
    ],
)
def test_types_that_no_file_has(made: Path, name: str, values: np.ndarray, says: str) -> None:
    write(made / "SHD/shd_test.h5", [([0.1, 0.2], [1, 2])] * 2, [3, 19])
    with h5py.File(made / "SHD/shd_test.h5", "a") as file:
        del file[name]
        file[name] = values
    refused(made, says, "`shd_test.h5` is damaged")


def test_a_time_that_no_whole_number_holds_counts_in_the_last_step(made: Path) -> None:
    write(made / "SHD/shd_test.h5", [([0.1, 0.2], [1, 2])] * 2, [3, 19])
    with h5py.File(made / "SHD/shd_test.h5", "a") as file:
        del file["spikes/times"]
        file["spikes/times"] = np.array([[0.1, 1e30], [0.1, 0.2]])
    expected = torch.zeros(2, 2, 700)
    expected[0, 0, 1] = expected[1, 0, 2] = expected[0, 1, 1] = expected[0, 1, 2] = 1
    assert torch.equal(load("shd", made).test.inputs, expected)


def test_a_changed_byte_in_kept_frames_is_noticed(made: Path) -> None:
    first = load("shd", made).test.inputs
    path = next((made / "SHD").glob("shd_test_v1*"))
    content = bytearray(path.read_bytes())
    content[-100] ^= 64
    path.write_bytes(content)
    assert torch.equal(load("shd", made).test.inputs, first)


def test_other_words_in_the_place_of_those_that_were_counted(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("shd", made).test.inputs
    path = made / "SHD/shd_test.h5"
    # A copy has another time and the same bytes.
    os.utime(path, ns=(5, 5))
    with monkeypatch.context() as patched:
        patched.setattr(ears, "keep", None)
        assert torch.equal(load("shd", made).test.inputs, first)
        patched.setattr(frames, "_content", None)
        assert torch.equal(load("shd", made).test.inputs, first)
    before = path.stat()
    write(path, [WORDS[0], ([0.1, 0.2, 0.3], [9, 9, 8])], [3, 19])
    assert path.stat().st_size == before.st_size
    assert load("shd", made).test.inputs[0, 1, 9] == 2
