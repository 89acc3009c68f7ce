"""Frames of events: recordings cut into steps, counted, and kept in one file beside them.

A recording is cut into T parts with the same number of events, and frame t counts those of part t by polarity. Frames
that are not of the network's size are resized, bilinear with antialiasing. They are made once, since decoding takes
minutes, and mapped from the disk from then on. Other recordings in the place of those they were made of are noticed.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bcgraph import files, foreign
from bcgraph.data.readers import npy
from bcgraph.data.sources import Held
from bcgraph.errors import DataError

# What follows kept frames in their file: a mark, and the CRC-32 of all bytes before it. Between the frames and the
# mark stand the digests of `Sources` and a checksum of their own; earlier versions wrote none.
_CHECKSUM = struct.Struct("<8sI")
_SOURCES = struct.Struct("<16s16s16sI")
_MARK = b"bcgcrc32"
_MARK_OF_SOURCES = b"bcgfrom2"


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


def needs(name: str, *modules: str) -> None:
    """Raise DataError (E092) unless the modules that read the recordings of a data set are installed."""
    for module in modules:
        if find_spec(module) is None:
            raise DataError(
                "E092",
                f"reading the recordings of `{name}` needs `{module}`, which is not installed",
                hint="pip install 'bcgraph[tonic]'",
            )


@dataclass(frozen=True)
class Sources:
    """Digests of the recordings that frames are made of: their names and sizes, when they were written, their bytes."""

    names: bytes
    times: bytes
    content: bytes

    @staticmethod
    def of(paths: Sequence[Path], folder: Path) -> Sources:
        """Those of the files `paths`, by their names from `folder` on. Raises OSError."""
        return Sources(*_listed(paths, folder), _content(paths))


def _listed(paths: Sequence[Path], folder: Path) -> tuple[bytes, bytes]:
    names, times = hashlib.sha256(), hashlib.sha256()
    for path in paths:
        found = path.stat()
        names.update(f"{os.path.relpath(path, folder)}\0{found.st_size}\0".encode(errors="surrogateescape"))
        times.update(f"{found.st_mtime_ns}\0".encode())
    return names.digest()[:16], times.digest()[:16]


def _content(paths: Sequence[Path]) -> bytes:
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.digest()[:16]


def kept(
    path: Path, shape: tuple[int, ...], sources: Sequence[Path], dtype: type[np.generic] = np.float16
) -> NDArray[np.generic] | None:
    """The frames in `path`, mapped from the disk; None where there are none, or others, damaged ones, or out of date.

    Every byte is read once to compare the checksum at the end. They are out of date when `sources` are other recordings
    than those that they were made of; without any, as where only the frames are kept, they are taken as they are.
    Frames of earlier versions have no checksum, or do not say what they were made of.
    """
    # Nobody else would remove what a killed process has left in the folder of a data set.
    files.sweep_dead(path)
    if not foreign.is_file(path):
        return None
    try:
        found = npy.mapped(path)
        if found.shape != shape or found.dtype != dtype or not _whole(path, sources):
            return None
    except (OSError, ValueError, EOFError, struct.error):
        return None
    return found


def _whole(path: Path, sources: Sequence[Path]) -> bool:
    """Whether the checksum at the end of a file fits, and what it says of the recordings."""
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END) - _CHECKSUM.size
        stream.seek(max(0, end))
        mark, value = _CHECKSUM.unpack(stream.read(_CHECKSUM.size))
        if mark == _MARK:
            return bool(npy.checksum(stream, 0, end) == value)
        if mark != _MARK_OF_SOURCES:
            return True
        end -= _SOURCES.size
        if npy.checksum(stream, 0, end) != value:
            return False
        stream.seek(end)
        *digests, check = _SOURCES.unpack(stream.read(_SOURCES.size))
    if check != zlib.crc32(b"".join(digests)):
        return False
    return not sources or _made_of(Sources(*digests), sources, path, end)


def _made_of(made: Sources, paths: Sequence[Path], path: Path, place: int) -> bool:
    """Whether frames that were made of `made` are those of `paths`.

    Recordings that were copied have another time. Their bytes tell, and the new time is noted at `place` if it can be.
    """
    names, times = _listed(paths, path.parent)
    if names != made.names:
        return False
    if times != made.times:
        if _content(paths) != made.content:
            return False
        with suppress(OSError), path.open("r+b") as stream:
            stream.seek(place)
            stream.write(_packed(Sources(names, times, made.content)))
    return True


def _packed(sources: Sources) -> bytes:
    digests = astuple(sources)
    return _SOURCES.pack(*digests, zlib.crc32(b"".join(digests)))


def keep(
    path: Path,
    shape: tuple[int, ...],
    sources: Sequence[Path],
    rows: Iterable[NDArray[np.generic]],
    dtype: type[np.generic] = np.float16,
) -> NDArray[np.generic]:
    """Write the frames of one sample after the other, so that memory holds only one, and map them.

    `sources` are the recordings that they are made of. Raises RunError (E084) when they cannot be written.
    """
    header = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": shape}
    made = Sources.of(sources, path.parent)
    with files.writing(path) as temporary, temporary.open("w+b") as stream:
        files.claim(stream)
        np.lib.format.write_array_header_1_0(stream, header)
        value = npy.checksum(stream, 0, stream.tell())
        for row in rows:
            content = row.astype(dtype).tobytes()
            value = zlib.crc32(content, value)
            stream.write(content)
        stream.write(_packed(made))
        stream.write(_CHECKSUM.pack(_MARK_OF_SOURCES, value))
    found = kept(path, shape, (), dtype)
    assert found is not None
    return found


def counted(events: NDArray[Any], sensor: tuple[int, int], steps: int, size: tuple[int, int]) -> NDArray[np.float16]:
    """Events with the fields t, x, y and p as frames `[T, 2, H, W]`; `sensor` and `size` are height and width.

    Each step has the same number of events; what is left over at the end is not counted. Counts beyond the range of
    float16 become its largest number. Raises ValueError for fewer events than steps, and for one that lies outside of
    the sensor or has no polarity.
    """
    if len(events) < steps:
        raise ValueError(f"it has {len(events)} events")
    some = _in_order(events, sensor)[: len(events) // steps * steps]
    step = np.repeat(np.arange(steps), len(some) // steps)
    at = ((step * 2 + some["p"].astype(np.int64)) * sensor[0] + some["y"]) * sensor[1] + some["x"]
    counts = np.bincount(at, minlength=steps * 2 * sensor[0] * sensor[1]).reshape(steps, 2, *sensor)
    frames = np.empty((steps, 2, *size), dtype=np.float16)
    largest = np.finfo(np.float16).max
    if size == sensor:
        frames[:] = np.minimum(counts, largest)
        return frames
    for number in range(steps):
        for polarity in range(2):
            image = Image.fromarray(counts[number, polarity].astype(np.float32))
            resized = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR), dtype=np.float32)
            frames[number, polarity] = np.minimum(resized, largest)
    return frames


def _in_order(events: NDArray[Any], sensor: tuple[int, int]) -> NDArray[Any]:
    """Events by their time, those of one time as they stand; a file's packets may be out of order."""
    for axis, length in (("x", sensor[1]), ("y", sensor[0])):
        if events[axis].min() < 0 or events[axis].max() >= length:
            raise ValueError(f"an event lies outside of the sensor of {sensor[1]}x{sensor[0]}")
    if not np.isin(events["p"], (0, 1)).all():
        raise ValueError("an event has a polarity that is neither 0 nor 1")
    times = events["t"]
    if (times[1:] >= times[:-1]).all():
        return events
    return events[np.argsort(times, kind="stable")]
