"""Files of numpy (`.npy`): never unpickled; what their header says is compared before memory is taken."""

from __future__ import annotations

import math
import os
import tokenize
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**24


class PicklesError(ValueError):
    """An array holds Python objects."""


@dataclass(frozen=True)
class Header:
    """What stands before the values of an array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """The bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def header(stream: Any) -> Header:
    """The header of an array. Raises ValueError for one that is damaged, PicklesError for Python objects."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"it is of version {version[0]}.{version[1]} of the format")
    try:
        shape, fortran, dtype = readers[version](stream)
    except (SyntaxError, tokenize.TokenError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError("its header is damaged") from error
    if dtype.hasobject:
        raise PicklesError("it holds Python objects, which are not unpickled")
    if any(length < 0 for length in shape):
        raise ValueError("its header is damaged")
    return Header(tuple(int(length) for length in shape), bool(fortran), dtype)


def mapped(path: Path) -> NDArray[np.generic]:
    """The array in a file, mapped from the disk. Raises OSError, and ValueError where it is damaged."""
    with path.open("rb") as stream:
        found = header(stream)
        begin, end = stream.tell(), stream.seek(0, os.SEEK_END)
    if found.size > end - begin:
        raise ValueError("it is not as long as its header says")
    return mapped_at(path, begin, found)


def mapped_at(path: Path, begin: int, found: Header) -> NDArray[np.generic]:
    """The array whose values begin at a byte of a file."""
    if not found.size:
        return np.zeros(found.shape, dtype=found.dtype)
    return np.memmap(path, found.dtype, "r", begin, found.shape, "F" if found.fortran else "C")


def checksum(stream: BinaryIO, begin: int, size: int) -> int:
    """The CRC-32 of some bytes of a file, read block by block."""
    stream.seek(begin)
    found = 0
    while size and (block := stream.read(min(size, BLOCK))):
        found = zlib.crc32(block, found)
        size -= len(block)
    return found
