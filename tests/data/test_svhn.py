"""SVHN in its true format, made small: read, downloaded from a server of this machine, and damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision.datasets import SVHN

from bcgraph import data
from bcgraph.data.readers import svhn
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, ImageInput
from tests.data.serving import serving

COUNTS = {"train": 7, "test": 3}


def write(folder: Path) -> dict[str, np.ndarray]:
    """Both files, small; returns their images `[N, 3, 32, 32]`. Labels count from 1, and 10 stands for the digit 0."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    pixels = {}
    for part, count in COUNTS.items():
        pixels[part] = draw.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8)
        labels = 10 - np.arange(count, dtype=np.uint8)[:, None]
        savemat(folder / f"{part}_32x32.mat", {"X": pixels[part].transpose(2, 3, 1, 0), "y": labels})
    return pixels


def told(folder: Path, address: str) -> dict[str, list[str]]:
    """What torchvision knows of the published files, of those in `folder`."""
    return {
        part: [f"{address}{path.name}", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
        for part, path in ((part, folder / f"{part}_32x32.mat") for part in COUNTS)
    }


def load(root: Path, **settings: Any) -> data.Splits:
    return data.load(DataSpec(name="svhn", root=str(root), augment=False, **settings), ImageInput(3, 32, 32), 4)


def refused(root: Path, *says: str, **settings: Any) -> None:
    with pytest.raises(DataError) as caught:
        load(root, **settings)
    assert caught.value.code == "E081"
    for text in says:
        assert text in str(caught.value)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Both files on a server of this machine, which torchvision takes for the publisher's."""
    folder = tmp_path / "served"
    write(folder)
    with serving(folder) as address:
        monkeypatch.setattr(SVHN, "split_list", told(folder, address))
        yield folder


def test_pixels_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write(tmp_path / "data")
    monkeypatch.setattr(SVHN, "split_list", told(tmp_path / "data", "https://nowhere.invalid/"))
    splits = load(tmp_path / "data")
    assert splits.train.labels.tolist() == [0, 9, 8, 7, 6, 5, 4]
    assert splits.test.labels.tolist() == [0, 9, 8]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (svhn.MEAN, svhn.STD))
    expected = (torch.from_numpy(pixels["test"]) / 255 - mean) / std
    assert torch.allclose(splits.test.inputs, expected, atol=1e-5)


def test_download_is_off_by_default_and_asked_for_by_a_setting(tmp_path: Path, served: Path) -> None:
    root = tmp_path / "new" / "data"
    refused(root, "`train_32x32.mat` is missing", "`download = true`")
    assert not root.exists()
    first = load(root, download=True).test.inputs
    assert len(first) == 3
    for path in served.iterdir():
        path.unlink()
    assert torch.equal(load(root, download=True).test.inputs, first), "what is there is not fetched"


def test_a_download_that_fails_is_an_error_of_ours(tmp_path: Path, served: Path) -> None:
    (served / "test_32x32.mat").write_bytes(b"other bytes")
    refused(tmp_path / "data", "cannot be downloaded", download=True)
    (served / "test_32x32.mat").unlink()
    refused(tmp_path / "other", "cannot be downloaded", str(tmp_path / "other"), download=True)


@pytest.mark.parametrize("content", [b"", b"rubbish, and more of it"])
def test_a_damaged_file_is_named(tmp_path: Path, served: Path, content: bytes) -> None:
    (served / "test_32x32.mat").write_bytes(content)
    refused(served, "the file `test_32x32.mat` is damaged", "checksum", str(served))
