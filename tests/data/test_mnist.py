"""idx files in their true format, made small: MNIST and its kin, as images and as rows, from a mirror, and damaged."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from bcgraph import data
from bcgraph.data.readers import mnist
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, ImageInput, InputSpec, SequenceInput
from tests import needs
from tests.data.serving import serving

IMAGE = ImageInput(1, 28, 28)
COUNTS = {"train": 7, "t10k": 3}


def idx(values: np.ndarray) -> bytes:
    """`values` as an idx file of bytes."""
    head = bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", n) for n in values.shape)
    return head + values.astype(np.uint8).tobytes()


def write(folder: Path, parts: tuple[str, str] = ("train", "t10k"), *, packed: bool = False) -> dict[str, np.ndarray]:
    """Both parts, small, in a folder; returns their images."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    pixels = {}
    for part, count in zip(parts, COUNTS.values(), strict=True):
        pixels[part] = draw.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        for name, values in (("images-idx3", pixels[part]), ("labels-idx1", np.arange(count))):
            content = idx(values)
            path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return pixels


def load(name: str, root: Path, form: InputSpec = IMAGE, steps: int = 4, **settings: object) -> data.Splits:
    return data.load(DataSpec(name=name, root=str(root), **settings), form, steps)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def system(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where packages of the system are looked for: nowhere, so that what the tests make is found."""
    places: list[Path] = []
    monkeypatch.setattr(mnist.Family, "places", _places(places))
    return places


def _places(system: list[Path]) -> Any:
    return lambda family, root: (root / family.reader / "raw", root, *(system if family.system else ()))


@pytest.mark.parametrize(
    ("name", "folder", "parts"),
    [
        ("mnist", "MNIST/raw", ("train", "t10k")),
        ("kmnist", "KMNIST/raw", ("train", "t10k")),
        ("fashion_mnist", ".", ("train", "t10k")),
        ("emnist", "EMNIST/raw", ("emnist-balanced-train", "emnist-balanced-test")),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_pixels_and_labels(tmp_path: Path, name: str, folder: str, parts: tuple[str, str], packed: bool) -> None:
    pixels = write(tmp_path / folder, parts, packed=packed)
    splits = load(name, tmp_path)
    assert splits.train.labels.tolist() == list(range(7))
    assert splits.test.labels.tolist() == list(range(3))
    expected = (torch.from_numpy(pixels[parts[1]])[:, None] / 255 - splits.mean[0]) / splits.std[0]
    assert torch.allclose(splits.test.inputs, expected, atol=1e-6)
    assert len(splits.classes) == (47 if name == "emnist" else 10)


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    write(tmp_path / "MNIST/raw")
    theirs = datasets.MNIST(tmp_path, train=True)
    ours = load("mnist", tmp_path).train
    values = ours.part.samples.take(np.arange(7))
    assert np.array_equal(np.round(values[:, 0] * 255).astype(np.uint8), theirs.data.numpy())
    assert ours.labels.tolist() == theirs.targets.tolist()


def test_rows_are_steps_and_size_is_a_mean_of_squares(tmp_path: Path) -> None:
    pixels = write(tmp_path)["t10k"].astype(np.float64) / 255
    rows = load("fashion_rows", tmp_path, SequenceInput(1, 1, 28), 28).test.inputs
    assert rows.shape == (28, 3, 1, 1, 28)
    normal = (torch.from_numpy(pixels) - 0.2860) / 0.3530
    assert torch.allclose(rows[5, :, 0, 0].double(), normal[:, 5], atol=1e-6)
    small = load("fashion_rows", tmp_path, SequenceInput(1, 1, 14), 14, size=14).test.inputs
    pooled = pixels.reshape(3, 14, 2, 14, 2).mean((2, 4))
    assert torch.allclose(
        small[:, :, 0, 0].double(), (torch.from_numpy(pooled).movedim(1, 0) - 0.2860) / 0.3530, atol=1e-6
    )
    image = load("fashion_mnist", tmp_path, ImageInput(1, 14, 14), size=14).test.inputs
    assert torch.equal(image[:, 0].movedim(1, 0), small[:, :, 0, 0])
    padded = load("fashion_mnist", tmp_path, ImageInput(1, 32, 32), size=32).test.inputs
    assert torch.allclose(padded[:, 0, 2:-2, 2:-2].double(), normal, atol=1e-6)
    assert torch.all(padded[:, 0, :2] == padded[0, 0, 0, 0])


def refused(name: str, root: Path, *says: str, code: str = "E081", form: InputSpec = IMAGE, **settings: object) -> None:
    with pytest.raises(DataError) as caught:
        load(name, root, form, **settings)
    assert caught.value.code == code
    shown = str(caught.value)
    for text in says:
        assert text in shown


def test_nothing_there(tmp_path: Path, system: list[Path]) -> None:
    refused("mnist", tmp_path, "`train-images-idx3-ubyte` is missing", str(tmp_path / "MNIST/raw"), "`download = true`")
    system.append(tmp_path / "package")
    refused("fashion_mnist", tmp_path, "dataset-fashion-mnist", f"nor in `{tmp_path / 'package'}`")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("content", ["cut", "rubbish", "empty", "type"])
def test_damaged(tmp_path: Path, packed: bool, content: str) -> None:
    write(tmp_path, packed=packed)
    path = tmp_path / f"t10k-images-idx3-ubyte{'.gz' if packed else ''}"
    whole = path.read_bytes()
    if content == "type":
        raw = gzip.decompress(whole) if packed else whole
        changed = b"\0\0\x0d" + raw[3:]
        path.write_bytes(gzip.compress(changed) if packed else changed)
    else:
        path.write_bytes({"cut": whole[:-20], "rubbish": b"rubbish, and more of it", "empty": b""}[content])
    refused("mnist", tmp_path, f"the file `{path.name}` is damaged", str(path))


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(idx(np.array([1, 2])))
    refused("mnist", tmp_path, "it does not hold labels of 3 images")
    path.write_bytes(idx(np.array([1, 2, 10])))
    refused("mnist", tmp_path, "it holds the label 10, but there are 10 classes")
    path.write_bytes(idx(np.zeros((3, 28, 28))))
    refused("mnist", tmp_path, "it does not hold labels of 3 images")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a server on this machine gives, which torchvision takes for the mirror of Fashion-MNIST."""
    served = tmp_path / "served"
    write(served, packed=True)

    reader = datasets.FashionMNIST
    sums = [(p.name, hashlib.md5(p.read_bytes()).hexdigest()) for p in sorted(served.iterdir())]
    monkeypatch.setattr(reader, "resources", sums)
    with serving(served) as address:
        monkeypatch.setattr(reader, "mirrors", [address])
        yield served


def test_download_is_off_by_default_and_asked_for_by_a_setting(tmp_path: Path, mirror: Path) -> None:
    root = tmp_path / "new" / "data"
    refused("fashion_mnist", root, "`download = true`")
    assert not root.exists()
    first = load("fashion_mnist", root, download=True).test.inputs
    assert len(first) == 3
    for path in mirror.iterdir():
        path.unlink()
    assert torch.equal(load("fashion_mnist", root, download=True).test.inputs, first), "what is there is not fetched"


def test_a_download_that_fails_is_an_error_of_ours(tmp_path: Path, mirror: Path) -> None:
    (mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(b"other bytes")
    refused("fashion_mnist", tmp_path / "data", "cannot be downloaded", download=True)
    (mirror / "t10k-labels-idx1-ubyte.gz").unlink()
    refused("fashion_mnist", tmp_path / "other", "cannot be downloaded", str(tmp_path / "other"), download=True)


def test_debian_brings_all_of_fashion_mnist(tmp_path: Path, system: list[Path]) -> None:
    found = needs.folder("Debian's package dataset-fashion-mnist", *mnist.DEBIAN)
    system.append(found)
    splits = load("fashion_mnist", tmp_path)
    assert (len(splits.train), len(splits.test)) == (60_000, 10_000)
    assert splits.test.labels.bincount().tolist() == [1000] * 10
    pixels = splits.train.source.train.samples.take(np.arange(0, 60_000, 10))
    assert float(pixels.mean()) == pytest.approx(splits.mean[0], abs=4e-3)
    assert float(pixels.std()) == pytest.approx(splits.std[0], abs=4e-3)


@pytest.mark.parametrize("sizes", [(-3, -28, 28), (65536, 65536, 65536, 65536), (2**31, 28, 28)])
def test_sizes_that_no_file_has(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    write(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte"
    head = bytes([0, 0, 8, len(sizes)]) + b"".join(struct.pack(">I", n % 2**32) for n in sizes)
    path.write_bytes(head + path.read_bytes()[16:])
    refused("mnist", tmp_path, f"the file `{path.name}` is damaged")


def test_a_part_without_images(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((0, 28, 28))))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(0)))
    refused("mnist", tmp_path, "its test part has no samples")


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_too_large_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    write(tmp_path, packed=packed)
    monkeypatch.setattr(mnist, "LIMIT", 7 * 784 + 16)
    load("mnist", tmp_path)
    monkeypatch.setattr(mnist, "LIMIT", 7 * 784 + 15)
    with pytest.raises(DataError, match="is damaged: it is larger than 5,503 bytes"):
        load("mnist", tmp_path)
