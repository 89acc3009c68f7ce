"""Spoken words as spikes of an artificial cochlea: Heidelberg digits and speech commands (Cramer et al. 2020).

The files are HDF5: for each word the times of its spikes in seconds and the units, of 700, that fired. In version 1 a
word lasts as long as `LENGTHS` says, is cut into T steps of equal duration, and each step counts the spikes of each
unit, or of as many neighboring units as give the network's features. The counts are kept beside the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcgraph.data.readers.frames import keep, kept, needs
from bcgraph.data.readers.images import absent
from bcgraph.data.sources import DataSet, Held, Part, Request
from bcgraph.errors import DataError

VERSION = 1
UNITS = 700
LENGTHS = {"shd": 1.4, "ssc": 1.0}
"""Seconds; what is later counts in the last step."""

URL = "https://zenkelab.org/datasets"
CLASSES = {"shd": 20, "ssc": 35}


def load_shd(request: Request) -> DataSet:
    """`shd`: spoken digits in German and English, split by speaker as published. Raises DataError (E081, E092)."""
    return _load("shd", request)


def load_ssc(request: Request) -> DataSet:
    """`ssc`: speech commands; the published validation part is left aside. Raises DataError (E081, E092)."""
    return _load("ssc", request)


def _load(name: str, request: Request) -> DataSet:
    features = request.shape[-1]
    if UNITS % features:
        raise DataError(
            "E081",
            f"the data set `{name}` has {UNITS} units, which {features} features do not divide",
            span=request.data.span,
            hint="700, 350, 140, 100 or 70 do, for example",
        )
    folder = request.root / name.upper()
    parts = []
    for part in ("train", "test"):
        path = folder / f"{name}_{part}.h5"
        how = f"download {URL}/{name}_{part}.h5.gz and unpack it in `{folder}`, or set `root` to where it is"
        if not path.is_file():
            raise absent(name, path, f"the file `{path.name}` is missing", how)
        needs(name, "h5py")
        try:
            found = _read(name, path, request, features)
        # HDF5 raises OSError, KeyError and RuntimeError for what it cannot decode.
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise absent(name, path, f"the file `{path.name}` is damaged: {reason}", how) from error
        parts.append(found)
    classes = tuple(map(str, range(CLASSES[name])))
    channels = request.shape[0]
    return DataSet(name, parts[0], parts[1], classes, (0.0,) * channels, (1.0,) * channels)


def _read(name: str, path: Path, request: Request, features: int) -> Part:
    import h5py

    with h5py.File(path, "r") as file:
        given = np.asarray(file["labels"])
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise ValueError(f"its labels are of the shape {list(given.shape)} and type {given.dtype}")
        labels = given.astype(np.int64)
        times, units = file["spikes"]["times"], file["spikes"]["units"]
        if not len(labels) == len(times) == len(units):
            raise ValueError(f"{len(labels):,} labels come with {len(times):,} and {len(units):,} lists of spikes")
        if len(labels) and not (labels.min() >= 0 and labels.max() < CLASSES[name]):
            raise ValueError(f"a label is not in 0 to {CLASSES[name] - 1}")
        shape = (len(labels), request.steps, features)
        at = path.with_name(f"{path.stem}_v{VERSION}_T{request.steps}_{features}.npy")
        frames = kept(at, shape, [path], np.uint8)
        if frames is None:
            counts = _counts(times, units, request.steps, features, LENGTHS[name])
            frames = keep(at, shape, [path], counts, np.uint8)
    return Part(Held(frames.reshape(len(labels), request.steps, *request.shape)), labels)


def _counts(times: Any, units: Any, steps: int, features: int, length: float) -> Iterator[NDArray[np.uint8]]:
    """The counts of each word, `[T, F]`. Raises ValueError for times and units that cannot be."""
    for number in range(len(times)):
        when, which = np.asarray(times[number]), np.asarray(units[number])
        if when.dtype.kind != "f" or which.dtype.kind not in "iu":
            raise ValueError(f"word {number} has times of the type {when.dtype} and units of the type {which.dtype}")
        if when.shape != which.shape or when.ndim != 1:
            raise ValueError(f"word {number} has {when.size} times and {which.size} units")
        if not np.isfinite(when).all() or (when < 0).any() or (which < 0).any() or (which >= UNITS).any():
            raise ValueError(f"word {number} has a spike at no time, or of no unit from 0 to {UNITS - 1}")
        step = np.minimum(when.astype(np.float64) / length * steps, steps - 1).astype(np.int64)
        place = step * features + which.astype(np.int64) * features // UNITS
        counts = np.bincount(place, minlength=steps * features).reshape(steps, features)
        yield np.minimum(counts, 255).astype(np.uint8)
