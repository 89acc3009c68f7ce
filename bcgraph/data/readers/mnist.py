"""Data sets in the format of MNIST: idx files of 8-bit images and labels, packed by gzip or not.

A file is a magic number, its sizes, and its bytes (http://yann.lecun.com/exdb/mnist). They are read without torch;
torchvision fetches them, with `download`, to where it would look for them itself.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcgraph.data.augment import images
from bcgraph.data.readers.download import download
from bcgraph.data.readers.images import absent
from bcgraph.data.sources import Augmentation, DataSet, Held, Part, Request

SIDE = 28
LETTERS = (*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt",)
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
LIMIT = 2**30
"""Bytes of the largest file that is read; packed rubbish may be a thousand times as large as its file."""
DEBIAN = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/share/dataset-fashion-mnist"))


@dataclass(frozen=True)
class Family:
    """One of the data sets: its reader in torchvision, which names its folder, and what its files are called.

    `mean` and `std` are those of all training pixels. `system` are folders of packages of the system.
    """

    name: str
    reader: str
    classes: tuple[str, ...]
    mean: float
    std: float
    parts: tuple[str, str] = ("train", "t10k")
    arguments: tuple[tuple[str, str], ...] = ()
    augment: tuple[Augmentation, ...] = ()
    system: tuple[Path, ...] = ()

    def places(self, root: Path) -> tuple[Path, ...]:
        """Where its files may be: torchvision's folder, the root itself, and what the system brings."""
        return (root / self.reader / "raw", root, *self.system)

    @property
    def how(self) -> str:
        """How to get it."""
        package = ", or install the Debian package `dataset-fashion-mnist`" if self.system else ""
        return f"write `download = true`{package}, or set `root` to the folder that holds its idx files"

    def fetch(self, root: Path) -> None:
        """Let torchvision download the files."""
        from torchvision import datasets

        reader: Any = getattr(datasets, self.reader)
        reader(root, train=True, download=True, **dict(self.arguments))


DIGITS = tuple("0123456789")
MNIST = Family("mnist", "MNIST", DIGITS, 0.1307, 0.3081)
KMNIST = Family("kmnist", "KMNIST", tuple("おきすつなはまやれを"), 0.1918, 0.3483)
EMNIST = Family(
    "emnist",
    "EMNIST",
    LETTERS,
    0.1751,
    0.3332,
    parts=("emnist-balanced-train", "emnist-balanced-test"),
    arguments=(("split", "balanced"),),
)
FASHION = Family("fashion_mnist", "FashionMNIST", CLOTHES, 0.2860, 0.3530, augment=images(SIDE), system=DEBIAN)


def _images(family: Family, request: Request) -> DataSet:
    train, test = (_pooled(part, request) for part in _read(family, request))
    return _data_set(family, family.name, train, test, family.augment)


def _rows(family: Family, request: Request) -> DataSet:
    """The same images as sequences: frame t is row t from the top, `[T, 1, 1, W]`."""
    train, test = (_pooled(part, request) for part in _read(family, request))
    turned = [(pixels.swapaxes(1, 2)[:, :, :, None], labels, scale) for pixels, labels, scale in (train, test)]
    return _data_set(family, f"{family.name.split('_')[0]}_rows", turned[0], turned[1], ())


load_mnist = partial(_images, MNIST)
load_kmnist = partial(_images, KMNIST)
load_emnist = partial(_images, EMNIST)
load_fashion_mnist = partial(_images, FASHION)
load_fashion_rows = partial(_rows, FASHION)

_Pixels = tuple[NDArray[Any], NDArray[np.int64], float]


def _data_set(family: Family, name: str, train: _Pixels, test: _Pixels, augment: tuple[Augmentation, ...]) -> DataSet:
    return DataSet(
        name=name,
        train=Part(Held(train[0], train[2]), train[1]),
        test=Part(Held(test[0], test[2]), test[1]),
        classes=family.classes,
        mean=(family.mean,),
        std=(family.std,),
        augment=augment,
    )


def _pooled(part: tuple[NDArray[np.uint8], NDArray[np.int64]], request: Request) -> _Pixels:
    """Images `[N, 1, H, W]`, their labels, and what a value is multiplied by.

    A smaller `size` takes means of squares, a larger one adds a border of zeros.
    """
    pixels, labels = part
    size = request.data.size
    if size in (0, SIDE):
        return pixels[:, None], labels, 1 / 255
    if size > SIDE:
        around = (size - SIDE) // 2
        return np.pad(pixels[:, None], ((0, 0), (0, 0), (around, around), (around, around))), labels, 1 / 255
    side = SIDE // size
    sums = pixels.reshape(len(pixels), size, side, size, side).sum(axis=(2, 4), dtype=np.uint32)
    return sums[:, None].astype(np.float32), labels, 1 / (255 * side * side)


def _read(family: Family, request: Request) -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Images `[N, 28, 28]` and labels of both parts. Raises DataError (E081)."""
    stems = [f"{part}-{what}" for part in family.parts for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    found = _found(family, request.root, stems)
    if found is None and request.data.download:
        download(family.name, request.root, partial(family.fetch, request.root))
        found = _found(family, request.root, stems)
    if found is None:
        first = family.places(request.root)[0]
        others = [f"nor in `{place.absolute()}`" for place in family.places(request.root)[1:]]
        raise absent(family.name, first, f"the file `{stems[0]}` is missing", family.how, others)
    parts = []
    for images_at, labels_at in (found[:2], found[2:]):
        pixels, labels = idx(family.name, images_at, family.how), idx(family.name, labels_at, family.how)
        if pixels.ndim != 3 or pixels.shape[1:] != (SIDE, SIDE):
            raise _damaged(family, images_at, f"it does not hold images of {SIDE}x{SIDE} pixels")
        if labels.ndim != 1 or len(labels) != len(pixels):
            raise _damaged(family, labels_at, f"it does not hold labels of {len(pixels):,} images")
        if len(labels) and labels.max() >= len(family.classes):
            problem = f"it holds the label {labels.max()}, but there are {len(family.classes)} classes"
            raise _damaged(family, labels_at, problem)
        parts.append((pixels, labels.astype(np.int64)))
    return parts


def _damaged(family: Family, path: Path, problem: str) -> Exception:
    return absent(family.name, path, f"the file `{path.name}` is damaged: {problem}", family.how)


def _found(family: Family, root: Path, stems: list[str]) -> list[Path] | None:
    """The files of one place, where it has all of them."""
    for place in family.places(root):
        paths = [next((p for p in (place / s, place / f"{s}.gz") if p.is_file()), None) for s in stems]
        if all(paths):
            return [path for path in paths if path is not None]
    return None


def idx(name: str, path: Path, how: str) -> NDArray[np.uint8]:
    """The bytes in an idx file, in its shape. Raises DataError (E081) where it is not whole."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise ValueError(f"it is larger than {LIMIT:,} bytes")
        if content[:3] != b"\0\0\x08":
            raise ValueError("it is no idx file of bytes")
        sizes = struct.unpack_from(f">{content[3]}I", content, 4)
        values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * len(sizes))
        if len(values) != math.prod(sizes):
            raise ValueError(f"{len(values):,} of {math.prod(sizes):,} bytes are there")
        return values.reshape(sizes)
    except (EOFError, ValueError, IndexError, struct.error, gzip.BadGzipFile, zlib.error) as error:
        raise absent(name, path, f"the file `{path.name}` is damaged: {error}", how) from error
