"""Frames of events: recordings cut into steps, counted, and kept in one file beside them.

A recording is cut into T parts with the same number of events, and frame t counts those of part t by polarity. Frames
that are not of the network's size are resized, bilinear with antialiasing. They are made once, since decoding takes
minutes, and mapped from the disk from then on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bcgraph import files, foreign
from bcgraph.data.sources import Held
from bcgraph.errors import DataError


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


def kept(path: Path, shape: tuple[int, ...], dtype: type[np.generic] = np.float16) -> NDArray[np.generic] | None:
    """The frames in `path`, mapped from the disk; None where there are none, or not those that are needed."""
    if not foreign.is_file(path):
        return None
    try:
        found: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == dtype else None


def keep(
    path: Path, shape: tuple[int, ...], rows: Iterable[NDArray[np.generic]], dtype: type[np.generic] = np.float16
) -> NDArray[np.generic]:
    """Write the frames of one sample after the other, so that memory holds only one, and map them.

    Raises RunError (E084) when they cannot be written.
    """
    header = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": shape}
    with files.writing(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for row in rows:
            stream.write(row.astype(dtype).tobytes())
    found = kept(path, shape, dtype)
    assert found is not None
    return found


def counted(events: NDArray[Any], sensor: tuple[int, int], steps: int, size: tuple[int, int]) -> NDArray[np.float16]:
    """Events with the fields t, x, y and p as frames `[T, 2, H, W]`; `sensor` and `size` are height and width.

    Raises ValueError for fewer events than steps, and for one that lies outside of the sensor or has no polarity.
    """
    from tonic.functional import to_frame_numpy

    if len(events) < steps:
        raise ValueError(f"it has {len(events)} events")
    counts = to_frame_numpy(_in_order(events, sensor), (*sensor[::-1], 2), n_event_bins=steps)
    frames = np.empty((steps, 2, *size), dtype=np.float16)
    if size == sensor:
        frames[:] = counts
        return frames
    for step in range(steps):
        for polarity in range(2):
            image = Image.fromarray(counts[step, polarity].astype(np.float32))
            frames[step, polarity] = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
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
