"""Recordings of event cameras: DVS128 Gesture, N-MNIST and N-Caltech101, in the layout that tonic unpacks them to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcgraph.data.augment import Flip, Roll
from bcgraph.data.readers import npy
from bcgraph.data.readers.frames import Chosen, counted, keep, kept, needs
from bcgraph.data.readers.images import absent
from bcgraph.data.sources import Augmentation, DataSet, Held, Part, Request
from bcgraph.errors import DataError

VERSION = 1
"""Of the splits and of the frames."""

GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise",
    "left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures",
)  # fmt: skip
DIGITS = 10, 60_000, 10_000
CALTECH = 101, 8_709
TEST_SHARE = 0.1

# No sensor has as many pixels in a row.
_FAR = 2.0**31

Labeled = Sequence[tuple[Path, int]]


@dataclass(frozen=True)
class Camera:
    """A data set: its folder, the height and width of its sensor, and what reads one of its files."""

    name: str
    folder: str
    sensor: tuple[int, int]
    read: Callable[[Path], NDArray[Any]]
    how: str
    augment: tuple[Augmentation, ...]

    def wrong(self, place: Path, problem: str) -> DataError:
        """The error for what is missing."""
        return absent(self.name, place, problem, self.how)

    def part(self, name: str, request: Request, listed: Callable[[], Labeled], labels: NDArray[np.int64]) -> Held:
        """The frames of the recordings that `listed` gives, made where they are not kept."""
        size, steps = request.size, request.steps
        path = request.root / self.folder / f"{name}_v{VERSION}_T{steps}_{size[0]}x{size[1]}.npy"
        shape = (len(labels), steps, 2, *size)
        recordings = [recording for recording, _ in listed()]
        found = kept(path, shape, recordings)
        if found is None:
            needs(self.name, "tonic")
            found = keep(path, shape, recordings, (self.frames(recording, steps, size) for recording in recordings))
        return Held(found)

    def frames(self, path: Path, steps: int, size: tuple[int, int]) -> NDArray[np.float16]:
        """The recording in a file as frames `[T, 2, H, W]`. Raises DataError (E081) when it cannot be read."""
        try:
            return counted(self.read(path), self.sensor, steps, size)
        except (ValueError, IndexError, EOFError, OSError) as error:
            raise DataError(
                "E081", f"the recording `{path}` cannot be read: {error}", hint="unpack the data set again"
            ) from error


def read_array(path: Path) -> NDArray[Any]:
    """The events in a `.npy` file of rows x, y, polarity, milliseconds."""
    rows = npy.mapped(path)
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "iuf" or not np.isfinite(rows).all():
        raise ValueError("it is no list of x, y, polarity and time")
    places = rows[:, :3].astype(np.float64)
    if (np.abs(places) >= _FAR).any() or (np.floor(places) != places).any():
        raise ValueError("an event lies outside of the sensor, or between two of its pixels")
    events = np.empty(len(rows), dtype=[("x", np.int64), ("y", np.int64), ("p", np.int64), ("t", rows.dtype)])
    for column, name in enumerate(("x", "y", "p", "t")):
        events[name] = rows[:, column]
    return events


def read_bytes(path: Path) -> NDArray[Any]:
    """The events in a `.bin` file, five bytes each, by tonic."""
    from tonic.io import read_mnist_file

    if path.stat().st_size % 5:
        raise ValueError("it ends within an event")
    fields = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])
    found: NDArray[Any] = read_mnist_file(str(path), dtype=fields)
    return found


def _how(name: str, url: str, root: str) -> str:
    return f"download {url} and unpack it below `root` as `{root}`, as tonic's {name} does"


GESTURE = Camera(
    "dvs_gesture",
    "DVSGesture",
    (128, 128),
    read_array,
    _how("DVSGesture", "https://figshare.com/ndownloader/files/38022171", "DVSGesture/ibmGestureTrain/USER/LABEL.npy"),
    (Roll(5),),
)
NMNIST = Camera(
    "n_mnist",
    "NMNIST",
    (34, 34),
    read_bytes,
    _how("NMNIST", "https://www.garrickorchard.com/datasets/n-mnist", "NMNIST/Train/DIGIT/*.bin"),
    (),
)
NCALTECH = Camera(
    "n_caltech101",
    "NCALTECH101",
    (180, 240),
    read_bytes,
    _how("NCALTECH101", "https://www.garrickorchard.com/datasets/n-caltech101", "NCALTECH101/Caltech101/CLASS/*.bin"),
    (Flip(), Roll(5)),
)


def load_dvs_gesture(request: Request) -> DataSet:
    """`dvs_gesture`: gestures of 29 people, split by person as published. Raises DataError (E081, E092)."""
    parts = []
    for part, folder in (("train", "ibmGestureTrain"), ("test", "ibmGestureTest")):
        place = request.root / GESTURE.folder / folder
        if not place.is_dir():
            raise GESTURE.wrong(place, f"the folder `{folder}` is missing")
        listed = []
        for path in sorted(place.glob("user*/*.npy")):
            if not path.stem.isdecimal() or int(path.stem) >= len(GESTURES):
                raise GESTURE.wrong(place, f"the recording `{path.name}` has no label from 0 to {len(GESTURES) - 1}")
            listed.append((path, int(path.stem)))
        listed.sort(key=lambda each: (each[0].parent, each[1]))
        missing = sorted(set(range(len(GESTURES))) - {label for _, label in listed})
        if missing:
            raise GESTURE.wrong(place, f"there are no recordings of class {missing[0]}, {GESTURES[missing[0]]}")
        parts.append(_part(GESTURE, part, request, listed))
    return _data_set(GESTURE, parts, GESTURES)


def load_n_mnist(request: Request) -> DataSet:
    """`n_mnist`: the digits of MNIST on a moving screen, split as MNIST. Raises DataError (E081, E092)."""
    classes, *counts = DIGITS
    parts = []
    for part, folder, count in zip(("train", "test"), ("Train", "Test"), counts, strict=True):
        place = request.root / NMNIST.folder / folder
        listed = [(p, label) for label in range(classes) for p in sorted((place / str(label)).glob("*.bin"))]
        if len(listed) != count:
            raise NMNIST.wrong(place, f"there are {len(listed):,} of {count:,} recordings (.bin)")
        parts.append(_part(NMNIST, part, request, listed))
    return _data_set(NMNIST, parts, tuple(map(str, range(classes))))


def load_n_caltech101(request: Request) -> DataSet:
    """`n_caltech101`: images of 101 classes on a moving screen. Raises DataError (E081, E092).

    The publisher gives no split. In version 1, a tenth of each class is for the test (`tenth`).
    """
    classes, count = CALTECH
    place = request.root / NCALTECH.folder / "Caltech101"
    names = (
        sorted(p.name for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")) if place.is_dir() else []
    )
    if len(names) != classes:
        raise NCALTECH.wrong(place, f"there are folders of {len(names)} of {classes} classes")
    listed = [(path, label) for label, name in enumerate(names) for path in sorted((place / name).glob("*.bin"))]
    if len(listed) != count:
        raise NCALTECH.wrong(place, f"there are {len(listed):,} of {count:,} recordings (.bin)")
    labels = np.array([label for _, label in listed], dtype=np.int64)
    test = np.zeros(len(labels), dtype=bool)
    for label, name in enumerate(names):
        members = np.flatnonzero(labels == label)
        test[members[tenth(name, len(members))]] = True
    everything = NCALTECH.part("frames", request, lambda: listed, labels)
    parts = [Part(Chosen(everything, np.flatnonzero(some)), labels[some]) for some in (~test, test)]
    return _data_set(NCALTECH, parts, tuple(names))


def tenth(name: str, number: int, seed: int = 0) -> list[int]:
    """The positions of the test recordings of a class, ascending, among its files in the order of their names."""
    chosen = random.Random(f"{seed}:{name}").sample(range(number), max(1, round(TEST_SHARE * number)))
    return sorted(chosen)


def _part(camera: Camera, name: str, request: Request, listed: Labeled) -> Part:
    labels = np.array([label for _, label in listed], dtype=np.int64)
    return Part(camera.part(name, request, partial(list, listed), labels), labels)


def _data_set(camera: Camera, parts: Sequence[Part], classes: tuple[str, ...]) -> DataSet:
    return DataSet(camera.name, parts[0], parts[1], classes, (0.0, 0.0), (1.0, 1.0), camera.augment)
