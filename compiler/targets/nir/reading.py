"""Reading a NIR file that anybody may have written: bounded in size and depth, data all the way.

HDF5 has links to other files, values that lie in other files, and compressed values that unpack to any size. So the
file is looked through before the library reads it: groups and values have to lie inside the file, and what they unpack
to is bounded. Nothing in a file is unpickled or run.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import nir

from bcgraph import foreign
from bcgraph.errors import RunError

MAX_BYTES = 2**31
"""What a file may hold, and what its values may unpack to."""

MAX_ENTRIES = 1_000_000
MAX_DEPTH = 64


def is_ours(graph: Any) -> bool:
    """Whether bcgraph has written a file, which then says itself how it is run."""
    return "bcgraph.form" in (graph.metadata or {})


def content(path: Path) -> bytes:
    """The bytes of a file. Raises RunError (E087)."""
    try:
        return foreign.read(path, MAX_BYTES)
    except OSError as error:
        raise RunError("E087", f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    except foreign.UnreadableError as error:
        raise RunError("E087", f"`{path}` cannot be read: {error}") from None


def parse(path: Path, data: bytes) -> Any:
    """The NIR graph in `data`. Raises RunError (E087) for what is no NIR file, or is out of bounds."""
    try:
        with h5py.File(BytesIO(data), "r") as file:
            _look(file)
        return nir.read(BytesIO(data))
    # The libraries check by assertion, by lookup and by whatever their constructors meet: a file that they cannot
    # read may raise anything. It is data all the way, so nothing in it is run.
    except Exception as error:
        raise RunError("E087", f"`{path}` is damaged, or no NIR file", notes=(first_line(error),)) from None


def first_line(error: Exception) -> str:
    """What a library says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _look(file: Any) -> None:
    """Raise ValueError for links to elsewhere, cycles, and values that unpack to more than is allowed."""
    size = entries = 0
    waiting: list[tuple[Any, int]] = [(file, 0)]
    while waiting:
        group, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"groups are nested more than {MAX_DEPTH} deep")
        for name in group:
            entries += 1
            if entries > MAX_ENTRIES:
                raise ValueError(f"it has more than {MAX_ENTRIES:,} entries")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"`{name}` is a link to elsewhere")
            entry = group[name]
            if isinstance(entry, h5py.Group):
                waiting.append((entry, depth + 1))
                continue
            if not isinstance(entry, h5py.Dataset) or entry.external or entry.is_virtual:
                raise ValueError(f"`{name}` lies outside of the file")
            size += int(entry.size or 0) * entry.dtype.itemsize
            if size > MAX_BYTES:
                raise ValueError(f"its values are more than {MAX_BYTES:,} bytes")
