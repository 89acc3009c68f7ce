"""CIFAR10-DVS: recordings of an event camera, read by tonic and turned into frames.

The publisher gives no split and no frames, so both are fixed here as version 1:
- test are 100 of each class's 1,000 recordings, by the list in `cifar10dvs_split_v1.json`; an entry is a position among
  the class's files in the order of their numbers;
- a recording is cut into T parts with the same number of events, and frame t counts the events of part t by polarity;
- frames are resized from 128x128 to the network's size (48x48 in the paper), bilinear with antialiasing, and kept as
  float16 in one file beside the recordings, since decoding them takes minutes.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bcgraph import files, foreign
from bcgraph.data.augment import Flip, Roll
from bcgraph.data.readers.images import absent
from bcgraph.data.sources import DataSet, Held, Part, Request
from bcgraph.errors import DataError

VERSION = 1
SPLIT = f"cifar10dvs_split_v{VERSION}.json"
FOLDER = "CIFAR10DVS"
URL = "https://figshare.com/ndownloader/files/38023437"
SENSOR = 128
PER_CLASS = 1000
TEST_PER_CLASS = 100
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_cifar10dvs(request: Request) -> DataSet:
    """`cifar10dvs`: 9,000 and 1,000 recordings of 10 classes, as T frames `[2, H, W]`, T being the network's steps.

    Training is augmented by flips and by shifts of up to 5 pixels. Raises DataError (E081, and E092 when the frames
    have to be made and tonic is not installed), RunError (E084) when the frames cannot be written.
    """
    folder = request.root / FOLDER
    size = request.size
    kept = folder / f"frames_v{VERSION}_T{request.steps}_{size[0]}x{size[1]}.npy"
    shape = (len(CLASSES) * PER_CLASS, request.steps, 2, *size)
    frames = _kept(kept, shape)
    if frames is None:
        _make(kept, _recordings(folder), shape)
        frames = _kept(kept, shape)
        assert frames is not None
    labels = np.repeat(np.arange(len(CLASSES), dtype=np.int64), PER_CLASS)
    test = np.zeros(len(labels), dtype=bool)
    for number, name in enumerate(CLASSES):
        test[[number * PER_CLASS + position for position in _split()["test"][name]]] = True
    everything = Held(frames)
    return DataSet(
        name="cifar10dvs",
        train=Part(Chosen(everything, np.flatnonzero(~test)), labels[~test]),
        test=Part(Chosen(everything, np.flatnonzero(test)), labels[test]),
        classes=CLASSES,
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        augment=(Flip(), Roll(5)),
    )


def make_split(seed: int = 0) -> dict[str, list[int]]:
    """The positions of each class's test recordings, ascending. This made the list that is kept."""
    draw = random.Random(seed)
    return {name: sorted(draw.sample(range(PER_CLASS), TEST_PER_CLASS)) for name in CLASSES}


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some of the samples of an array that stays on the disk."""

    samples: Held
    chosen: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The samples at `indices` among the chosen ones."""
        return self.samples.take(self.chosen[indices])


def frames_of(path: Path, steps: int, size: tuple[int, int]) -> NDArray[np.float16]:
    """The recording in an AEDAT 4 file as frames `[T, 2, H, W]`. Raises DataError (E081) when it cannot be read."""
    from tonic.functional import to_frame_numpy
    from tonic.io import read_aedat4

    try:
        events = read_aedat4(str(path))
        events.dtype.names = ("t", "x", "y", "p")
        if len(events) < steps:
            raise ValueError(f"it has {len(events)} events")
        counts = to_frame_numpy(_in_order(events), (SENSOR, SENSOR, 2), n_event_bins=steps)
    # The reader raises bare exceptions for what it cannot decode.
    except Exception as error:
        raise DataError(
            "E081", f"the recording `{path}` cannot be read: {error}", hint="unpack the data set again"
        ) from error
    frames = np.empty((steps, 2, *size), dtype=np.float16)
    for step in range(steps):
        for polarity in range(2):
            image = Image.fromarray(counts[step, polarity].astype(np.float32))
            frames[step, polarity] = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
    return frames


def _in_order(events: NDArray[Any]) -> NDArray[Any]:
    """Events by their time, those of one time as they stand; a file's packets may be out of order.

    Raises ValueError for an event that lies outside of the sensor or has no polarity.
    """
    for axis in ("x", "y"):
        if events[axis].min() < 0 or events[axis].max() >= SENSOR:
            raise ValueError(f"an event lies outside of the sensor of {SENSOR}x{SENSOR}")
    if not np.isin(events["p"], (0, 1)).all():
        raise ValueError("an event has a polarity that is neither 0 nor 1")
    times = events["t"]
    if (times[1:] >= times[:-1]).all():
        return events
    return events[np.argsort(times, kind="stable")]


def _recordings(folder: Path) -> list[Path]:
    how = f"download {URL} and unpack it, and the archives in it, in `{folder}`, or set `root` to where it is"
    if not folder.is_dir():
        raise absent("cifar10dvs", folder, f"the folder `{FOLDER}` is missing", how)
    found: list[Path] = []
    for name in CLASSES:
        place = folder / name
        recordings = sorted(place.glob("*.aedat4"), key=_number) if place.is_dir() else []
        if len(recordings) != PER_CLASS:
            problem = f"there are {len(recordings)} of {PER_CLASS} recordings (.aedat4) of class `{name}`"
            if any(place.glob("*.aedat")):
                problem += ", and .aedat files, which are of an older format"
            raise absent("cifar10dvs", place, problem, how)
        found += recordings
    return found


def _number(path: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else -1, path.name)


def _make(kept: Path, recordings: Sequence[Path], shape: tuple[int, ...]) -> None:
    """Decode all recordings into one array file, sample by sample, so that memory holds only one."""
    for module in ("tonic", "aedat"):
        if find_spec(module) is None:
            raise DataError(
                "E092",
                f"reading the recordings of `cifar10dvs` needs `{module}`, which is not installed",
                hint="pip install 'bcgraph[tonic]'",
            )
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    with files.writing(kept) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for recording in recordings:
            stream.write(frames_of(recording, shape[1], (shape[3], shape[4])).tobytes())


def _kept(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16] | None:
    """The frames in `path`, mapped from the disk; None where there are none, or not those that are needed."""
    if not foreign.is_file(path):
        return None
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.float16 else None


@cache
def _split() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((resources("bcgraph.data") / SPLIT).read_text())
    return found
