"""Arrays of the user's own: an `.npz` file, or a folder of `.npy` files, mapped from the disk and never unpickled.

Their names say what they are: `x_train`, `y_train`, `x_test` and `y_test`, or `x` and `y`, of which a share of each
class is held out for the test; `classes` may name the classes. What `numpy.savez` wrote is mapped as a `.npy` file is,
so it may be larger than memory; what `savez_compressed` wrote is unpacked into memory.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bcgraph import keys
from bcgraph.data.readers import npy
from bcgraph.data.readers.images import absent
from bcgraph.data.sources import DataSet, Floats, Integers, Part, Request
from bcgraph.errors import DataError

NAMES = ("x_train", "y_train", "x_test", "y_test", "x", "y", "classes")
HOW = "save `x_train`, `y_train`, `x_test`, `y_test` (or `x` and `y`) by `numpy.savez`, or as .npy files in a folder"
BLOCK = 2**24
"""Values that are looked at together."""

_LOCAL_HEADER = 30
# What Python's readers of archives raise for one that is damaged, or that has a password (RuntimeError).
_DAMAGE = (ValueError, OSError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


@dataclass(frozen=True, eq=False)
class Mapped:
    """Some of the samples of an array that may lie on the disk, as float32 times `scale`, in the shape of a network."""

    data: NDArray[np.generic]
    members: Integers
    shape: tuple[int, ...]
    scale: float

    def __len__(self) -> int:
        return len(self.members)

    def take(self, indices: Integers) -> Floats:
        """The samples at `indices`."""
        taken: Floats = self.data[self.members[indices]].astype(np.float32)
        taken = taken if self.scale == 1.0 else taken * np.float32(self.scale)
        return taken.reshape(len(indices), *self.shape)


def load_arrays(request: Request) -> DataSet:
    """`arrays`: x `[N, ...]` in the shape of the network's input, a sequence `[N, T, ...]`, and integers y `[N]`.

    A single channel may be left out. Floats are taken as they are, bytes are scaled to [0, 1], booleans are 0 and 1.
    Raises DataError (E081) for a pickle, other types, shapes that do not fit, numbers that differ, labels out of range
    and values that are not finite; every value is read once for that.
    """
    source = _Arrays(request.root, _opened(request.root), len(request.shape))
    shape = (request.steps, *request.shape) if request.sequence else request.shape
    parts = source.pairs()
    checked = [(source.samples(x, shape), source.labels(y)) for x, y in parts]
    for (x, y), (samples, labels) in zip(parts, checked, strict=True):
        if len(samples) != len(labels):
            raise source.wrong(f"`{x}` has {len(samples):,} samples, but `{y}` has {len(labels):,} labels")
    classes = source.classes([(y, labels) for (_, y), (_, labels) in zip(parts, checked, strict=True)])
    for (x, _), (samples, _) in zip(parts, checked, strict=True):
        source.finite(x, samples)
    if len(checked) == 1:
        ((samples, labels),) = checked
        train, test = _divided(labels, len(classes), request.data.held_out)
        both = [Part(_chosen(samples, some), labels[some]) for some in (train, test)]
    else:
        both = [Part(_chosen(samples, np.arange(len(labels))), labels) for samples, labels in checked]
    for part in both:
        if not len(part.labels):
            raise source.wrong("one of its parts is empty")
    channels = request.shape[0]
    return DataSet("arrays", both[0], both[1], classes, (0.0,) * channels, (1.0,) * channels)


@dataclass(frozen=True)
class _Samples:
    data: NDArray[np.generic]
    shape: tuple[int, ...]
    scale: float

    def __len__(self) -> int:
        return len(self.data)


def _chosen(samples: _Samples, members: Integers) -> Mapped:
    return Mapped(samples.data, members, samples.shape, samples.scale)


def _divided(labels: Integers, classes: int, share: float) -> tuple[Integers, Integers]:
    """The members of the training and of the test part: `share` of each class, the same for every seed."""
    held: list[int] = []
    for label in range(classes):
        members = [int(i) for i in np.flatnonzero(labels == label)]
        keys.rng(keys.derive(0, "arrays", "test"), "divide", label).shuffle(members)
        held += members[: round(share * len(members))]
    test = np.array(sorted(held), dtype=np.int64)
    return np.setdiff1d(np.arange(len(labels)), test), test


@dataclass(frozen=True)
class _Arrays:
    """The arrays that are there, by name, and what is checked of them."""

    root: Path
    found: Mapping[str, Callable[[], NDArray[np.generic]]]
    axes: int

    def wrong(self, problem: str, how: str = HOW) -> DataError:
        """The error for what is wrong with them."""
        return absent("arrays", self.root, problem, how)

    def pairs(self) -> list[tuple[str, str]]:
        """The names of x and y, of both parts or of one that is divided."""
        for pairs in ([("x_train", "y_train"), ("x_test", "y_test")], [("x", "y")]):
            needed = [name for pair in pairs for name in pair]
            missing = [name for name in needed if name not in self.found]
            if not missing:
                return pairs
            if len(missing) < len(needed):
                raise self.wrong(f"there is no array `{missing[0]}`")
        names = ", ".join(f"`{name}`" for name in self.found)
        raise self.wrong(f"there is no array `x`, but {names}" if names else "there is no array `x`")

    def array(self, name: str) -> NDArray[np.generic]:
        """One of them, mapped where it can be."""
        try:
            found = self.found[name]()
        except npy.PicklesError as error:
            problem = f"`{name}` holds Python objects, which are not unpickled"
            raise self.wrong(problem, "save it as an array of numbers, of one shape and type") from error
        except _DAMAGE as error:
            raise self.wrong(f"`{name}` cannot be read: {error}", "save it again") from error
        return found

    def samples(self, name: str, shape: tuple[int, ...]) -> _Samples:
        """An array of samples, which are of `shape`, or of that without an axis of one channel."""
        data = self.array(name)
        # The axis of the channels stands first in a frame; of a vector there is none.
        channel = len(shape) - self.axes
        without = shape[:channel] + shape[channel + 1 :] if self.axes > 1 and shape[channel] == 1 else shape
        if data.ndim == 0 or data.shape[1:] not in (shape, without):
            last = (*shape[-2:], shape[-3]) if len(shape) > 2 else None
            how = "the axes are [N, C, H, W], or [N, T, C, H, W] for a sequence"
            if last is not None and data.shape[1:] == (*shape[:-3], *last):
                how = "its channels stand last: `numpy.moveaxis(x, -1, -3)` moves them"
            raise self.wrong(f"`{name}` has the shape {list(data.shape)}, but the network takes {['N', *shape]}", how)
        if data.dtype == np.uint8:
            return _Samples(data, shape, 1 / 255)
        if not (np.issubdtype(data.dtype, np.floating) or data.dtype == np.bool_):
            problem = f"`{name}` has values of the type {data.dtype}"
            raise self.wrong(problem, "values are floats, taken as they are, or uint8 from 0 to 255, or booleans")
        return _Samples(data, shape, 1.0)

    def labels(self, name: str) -> Integers:
        """An array of labels."""
        data = self.array(name)
        if data.ndim == 2 and data.shape[1] == 1:
            data = data[:, 0]
        if data.ndim != 1 or data.dtype.kind not in "iu":
            problem = f"`{name}` is of the shape {list(data.shape)} and type {data.dtype}"
            raise self.wrong(problem, "labels are whole numbers from 0, one a sample")
        return np.asarray(data).astype(np.int64)

    def classes(self, labels: list[tuple[str, Integers]]) -> tuple[str, ...]:
        """The names of the classes: those that are given, or the numbers from 0 to the largest label."""
        number = sum(len(found) for _, found in labels)
        names: tuple[str, ...] | None = None
        if "classes" in self.found:
            given = self.array("classes")
            if given.ndim != 1 or given.dtype.kind != "U":
                raise self.wrong("`classes` is no list of texts", 'save `numpy.array(["cat", "dog"])`, for example')
            names = tuple(str(name) for name in given)
        limit = number if names is None else len(names)
        for name, found in labels:
            wrong = np.flatnonzero((found < 0) | (found >= limit))
            if len(wrong):
                bound = f"{number:,} samples" if names is None else f"{limit} `classes`"
                problem = f"`{name}` has the label {found[wrong[0]]} at {wrong[0]}, with {bound}"
                raise self.wrong(problem, "labels run from 0 to the number of classes, less one")
        return names or tuple(str(n) for n in range(1 + max(int(found.max(initial=0)) for _, found in labels)))

    def finite(self, name: str, samples: _Samples) -> None:
        """Read all values once, block by block, and refuse those that are not finite in float32."""
        if not np.issubdtype(samples.data.dtype, np.floating):
            return
        rows = max(1, BLOCK // max(1, int(np.prod(samples.shape))))
        for start in range(0, len(samples), rows):
            with np.errstate(over="ignore"):
                block = samples.data[start : start + rows].astype(np.float32, copy=False)
            good = np.isfinite(block).reshape(len(block), -1).all(axis=1)
            if not good.all():
                first = start + int(np.flatnonzero(~good)[0])
                raise self.wrong(f"sample {first} of `{name}` has values that are not finite", "replace or remove them")


def _opened(root: Path) -> Mapping[str, Callable[[], NDArray[np.generic]]]:
    """What gives each array that is there, by name."""
    if root.is_dir():
        paths = {name: root / f"{name}.npy" for name in NAMES if (root / f"{name}.npy").is_file()}
        return {name: _mapping(path) for name, path in paths.items()}
    if not root.exists():
        raise absent("arrays", root, "there is neither a file nor a folder of that name", HOW)
    if not root.is_file():
        raise absent("arrays", root, f"`{root.name}` is neither a file nor a folder", HOW)
    try:
        with zipfile.ZipFile(root) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
    except _DAMAGE as error:
        raise absent("arrays", root, f"`{root.name}` is no .npz file", HOW) from error
    return {name: _member(root, members[name]) for name in NAMES if name in members}


def _mapping(path: Path) -> Callable[[], NDArray[np.generic]]:
    def opened() -> NDArray[np.generic]:
        return npy.mapped(path)

    return opened


def _member(root: Path, member: zipfile.ZipInfo) -> Callable[[], NDArray[np.generic]]:
    """An array in an archive: mapped where it is stored as it is, else unpacked; its checksum is compared."""

    def opened() -> NDArray[np.generic]:
        with zipfile.ZipFile(root) as archive, archive.open(member) as stream:
            head = npy.header(stream)
            start = stream.tell()
            if head.size != member.file_size - start:
                raise ValueError("it is not as long as its header says")
            if member.compress_type != zipfile.ZIP_STORED:
                content = np.frombuffer(stream.read(), head.dtype)
                return content.reshape(head.shape, order="F" if head.fortran else "C")
        with root.open("rb") as stream:
            stream.seek(member.header_offset)
            local = stream.read(_LOCAL_HEADER)
            lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            offset = member.header_offset + _LOCAL_HEADER + lengths
            if npy.checksum(stream, offset, member.file_size) != member.CRC:
                raise ValueError("its checksum differs")
        return npy.mapped_at(root, offset + start, head)

    return opened
