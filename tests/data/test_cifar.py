"""CIFAR in its true format, made small; files that are missing or damaged; nothing unchecked is unpickled."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from bcgraph import data
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, ImageInput, InputSpec, SequenceInput
from tests.data.serving import serving

COUNT = 6


def store(path: Path, content: dict[str, Any]) -> str:
    path.write_bytes(pickle.dumps(content, protocol=2))
    return hashlib.md5(path.read_bytes()).hexdigest()


class Made:
    """A small data set in the layout of the published one, whose checksums torchvision is told."""

    def __init__(self, root: Path, name: str, patch: pytest.MonkeyPatch) -> None:
        ten = name == "cifar10"
        self.name, self.root = name, root
        self.reader: Any = datasets.CIFAR10 if ten else datasets.CIFAR100
        reader = self.reader
        self.folder = root / reader.base_folder
        self.folder.mkdir()
        draw = np.random.default_rng(0)
        self.pixels: dict[str, np.ndarray] = {}
        self.labels: dict[str, list[int]] = {}
        lists: dict[str, list[list[str]]] = {}
        for part in ("train_list", "test_list"):
            lists[part] = []
            for file, _ in getattr(reader, part):
                self.pixels[file] = draw.integers(0, 256, (COUNT, 3072)).astype(np.uint8)
                self.labels[file] = [int(n) for n in draw.integers(0, 10 if ten else 100, COUNT)]
                entry = {"data": self.pixels[file], "labels" if ten else "fine_labels": self.labels[file]}
                lists[part].append([file, store(self.folder / file, entry)])
            patch.setattr(reader, part, lists[part])
        names = [f"class {n}" for n in range(10 if ten else 100)]
        checksum = store(self.folder / reader.meta["filename"], {reader.meta["key"]: names})
        patch.setattr(reader, "meta", {**reader.meta, "md5": checksum})

    def load(self, form: InputSpec | None = None, **settings: Any) -> data.Splits:
        return data.load(DataSpec(name=self.name, root=str(self.root), **settings), form or ImageInput(3, 32, 32), 4)


@pytest.fixture(params=["cifar10", "cifar100"])
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(tmp_path, request.param, monkeypatch)


def test_pixels_and_labels(made: Made) -> None:
    splits = made.load()
    files = sorted(f for f in made.pixels if "test" not in f)
    pixels = np.concatenate([made.pixels[f] for f in files]).reshape(-1, 3, 32, 32)
    assert len(splits.train) == len(pixels)
    x, y = splits.train.take(range(len(pixels)))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (splits.mean, splits.std))
    assert torch.allclose(x, (torch.from_numpy(pixels) / 255 - mean) / std, atol=1e-5)
    assert y.tolist() == [label for f in files for label in made.labels[f]]
    assert len(splits.test) == COUNT
    assert len(splits.classes) == (10 if made.name == "cifar10" else 100)
    assert splits.classes[3] == "class 3"


def test_only_training_is_augmented_and_only_by_key(made: Made) -> None:
    splits = made.load()
    assert torch.equal(splits.train.take([0, 1])[0], splits.train.take([0, 1])[0])
    assert not torch.equal(splits.train.take([0, 1], key=1)[0], splits.train.take([0, 1])[0])
    assert torch.equal(splits.test.take([0, 1], key=1)[0], splits.test.take([0, 1])[0])


def test_nothing_is_augmented_where_the_specification_says_so(made: Made) -> None:
    train = made.load(augment=False).train
    assert torch.equal(train.take([0, 1], key=1)[0], train.take([0, 1])[0])


def refused(made: Made, *says: str, form: InputSpec | None = None) -> None:
    with pytest.raises(DataError) as caught:
        made.load(form)
    assert caught.value.code == "E081"
    assert len(caught.value.diagnostics) == 1
    for text in says:
        assert text in str(caught.value)


def test_nothing_there(made: Made) -> None:
    made.folder.rename(made.root / "elsewhere")
    refused(made, f"`{made.folder.name}` is missing", str(made.folder), "https://", "unpack it in")


def test_a_file_is_missing(made: Made) -> None:
    file = next(f for f in made.pixels if "test" in f)
    (made.folder / file).unlink()
    refused(made, f"the file `{file}` is missing", str(made.folder))


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_file_is_named_and_not_unpickled(made: Made, damage: str) -> None:
    file = next(iter(made.pixels))
    mark = made.root / "exploded"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (mark,))

    content = (made.folder / file).read_bytes()[:-100] if damage == "cut" else pickle.dumps(Bomb())
    (made.folder / file).write_bytes(content)
    refused(made, f"the file `{file}` is damaged", "checksum")
    assert not mark.exists()


def test_the_network_must_fit(made: Made) -> None:
    refused(made, "image(3, 32, 32)", "image(3, 64, 64)", form=ImageInput(3, 64, 64))
    refused(made, "sequence(3, 32, 32)", form=SequenceInput(3, 32, 32))


@pytest.fixture
def archive(made: Made, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The archive of the data set on a server of this machine, which torchvision takes for the published one."""
    path = tmp_path_factory.mktemp("served") / made.reader.filename
    with tarfile.open(path, "w:gz") as packed:
        packed.add(made.folder, arcname=made.folder.name)
    shutil.rmtree(made.folder)
    monkeypatch.setattr(made.reader, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    with serving(path.parent) as address:
        monkeypatch.setattr(made.reader, "url", address + path.name)
        yield path


def test_download_is_off_by_default_and_asked_for_by_a_setting(made: Made, archive: Path) -> None:
    refused(made, "`download = true`")
    assert not list(made.root.iterdir()), "nothing is fetched"
    first = made.load(download=True)
    assert first.test.labels.tolist() == [label for f in made.labels if "test" in f for label in made.labels[f]]
    archive.unlink()
    assert torch.equal(made.load(download=True).test.inputs, first.test.inputs), "what is there is not fetched"


@pytest.mark.parametrize("fault", ["other bytes", "missing"])
def test_a_download_that_fails_is_an_error_of_ours(made: Made, archive: Path, fault: str) -> None:
    archive.write_bytes(b"other bytes") if fault == "other bytes" else archive.unlink()
    with pytest.raises(DataError, match="cannot be downloaded") as caught:
        made.load(download=True)
    assert caught.value.code == "E081"
    assert str(made.root) in str(caught.value)
    assert not made.folder.exists()
