"""scikit-learn's 8x8 digits: the data set that needs no download.

1,797 scanned digits with values 0 to 16, scaled to [0, 1]. 1,200 are for training, 120 of each class, and the other
597 for the test, by the list in `digits_split_v1.json`. `digits` gives images `[1, 8, 8]`; `digits_rows` gives the same
digits as sequences of 8 rows, frame t being row t from the top: `[8, 1, 1, 8]`.
"""

from __future__ import annotations

import hashlib
import json
import random
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcgraph.data.sources import DataSet, Held, Part, Request
from bcgraph.errors import DataError

SPLIT = "digits_split_v1.json"
CLASSES = tuple(str(n) for n in range(10))
TRAINING_PER_CLASS = 120


def load_images(request: Request) -> DataSet:
    """`digits`, images of 8x8 pixels. Raises DataError (E081)."""
    images, _ = _read()
    return _data_set("digits", images[:, None])


def load_rows(request: Request) -> DataSet:
    """`digits_rows`, sequences of 8 rows. Raises DataError (E081)."""
    images, _ = _read()
    return _data_set("digits_rows", images[:, :, None, None])


def make_split(labels: NDArray[np.int64], seed: int = 0) -> list[int]:
    """The indices of the training part, ascending: 120 drawn from each class. This made the list that is kept."""
    draw = random.Random(seed)
    chosen: list[int] = []
    for label in range(len(CLASSES)):
        members = [int(i) for i in np.flatnonzero(labels == label)]
        chosen += draw.sample(members, TRAINING_PER_CLASS)
    return sorted(chosen)


def digest(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """A digest of the data in their order, which the list of the split relies on."""
    return hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()


def _data_set(name: str, samples: NDArray[np.uint8]) -> DataSet:
    _, labels = _read()
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[_split()["train"]] = True
    scale = 1 / 16
    return DataSet(
        name=name,
        train=Part(Held(samples[chosen], scale), labels[chosen]),
        test=Part(Held(samples[~chosen], scale), labels[~chosen]),
        classes=CLASSES,
        mean=(0.0,),
        std=(1.0,),
    )


@cache
def _split() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files("bcgraph.data") / SPLIT).read_text())
    return found


@cache
def _read() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images `[1797, 8, 8]` and their labels, read-only."""
    images, labels = _kept() or _loaded()
    if digest(images, labels) != _split()["sha256"]:
        raise DataError(
            "E081",
            "the digits that the installed scikit-learn brings are not those that the split was made for",
            hint="install a released scikit-learn, 1.5 or newer",
        )
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels


def _kept() -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """The digits from the file that scikit-learn keeps them in, or None where it keeps them elsewhere.

    Importing scikit-learn, and with it scipy, takes ten times as long as reading this file.
    """
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        return None
    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8).astype(np.uint8), rows[:, -1].astype(np.int64)


def _loaded() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.asarray(found.images).astype(np.uint8), np.asarray(found.target).astype(np.int64)
