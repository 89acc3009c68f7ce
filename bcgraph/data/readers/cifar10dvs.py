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
import os
import random
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcgraph.data.augment import Flip, Roll
from bcgraph.data.readers.frames import Chosen, counted, keep, kept, needs
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
    path = folder / f"frames_v{VERSION}_T{request.steps}_{size[0]}x{size[1]}.npy"
    shape = (len(CLASSES) * PER_CLASS, request.steps, 2, *size)
    frames = kept(path, shape, [recording for name in CLASSES for recording in _listed(folder / name)])
    if frames is None:
        recordings = _recordings(folder)
        needs("cifar10dvs", "tonic", "aedat")
        frames = keep(path, shape, recordings, (frames_of(recording, request.steps, size) for recording in recordings))
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


def frames_of(path: Path, steps: int, size: tuple[int, int]) -> NDArray[np.float16]:
    """The recording in an AEDAT 4 file as frames `[T, 2, H, W]`. Raises DataError (E081) when it cannot be read."""
    from tonic.io import read_aedat4

    try:
        with _unheard():
            events = read_aedat4(str(path))
        events.dtype.names = ("t", "x", "y", "p")
        return counted(events, (SENSOR, SENSOR), steps, size)
    # The reader raises bare exceptions for what it cannot decode; where it panics, they are no `Exception` even.
    except BaseException as error:
        if isinstance(error, (MemoryError, KeyboardInterrupt, SystemExit)):
            raise
        raise DataError(
            "E081", f"the recording `{path}` cannot be read: {error}", hint="unpack the data set again"
        ) from error


@contextmanager
def _unheard() -> Iterator[None]:
    """Within, nothing reaches standard error. A reader in Rust that panics prints there, beside what it raises."""
    try:
        before = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _recordings(folder: Path) -> list[Path]:
    how = f"download {URL} and unpack it, and the archives in it, in `{folder}`, or set `root` to where it is"
    if not folder.is_dir():
        raise absent("cifar10dvs", folder, f"the folder `{FOLDER}` is missing", how)
    found: list[Path] = []
    for name in CLASSES:
        place = folder / name
        recordings = _listed(place)
        if len(recordings) != PER_CLASS:
            problem = f"there are {len(recordings)} of {PER_CLASS} recordings (.aedat4) of class `{name}`"
            if any(place.glob("*.aedat")):
                problem += ", and .aedat files, which are of an older format"
            raise absent("cifar10dvs", place, problem, how)
        found += recordings
    return found


def _listed(place: Path) -> list[Path]:
    """The recordings of a class, in order; none where there is no such folder."""
    return sorted(place.glob("*.aedat4"), key=_number) if place.is_dir() else []


def _number(path: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else -1, path.name)


@cache
def _split() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((resources("bcgraph.data") / SPLIT).read_text())
    return found
