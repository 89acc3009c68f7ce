"""Safetensors files as bytes: their metadata, their seal and single tensors, without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from bcgraph import foreign, seals
from bcgraph.errors import WeightsError

if TYPE_CHECKING:
    import numpy as np

ENTRY = "bcgraph"
"""The one entry of the metadata that is ours: JSON."""

_METADATA = "__metadata__"
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}

ORDER = (
    *("U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16"),
    *("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"),
)
"""The types of tensors in the order in which the library writes them, the widest first, so that all are aligned."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor to write: its type, one of `ORDER`, its shape, and its values as bytes in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    content: memoryview


def packed(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None) -> bytearray:
    """A safetensors file, equal to the library's to the byte.

    The library holds three copies of all tensors while it does this, and where memory runs out its process aborts or
    waits for ever. This holds one, and raises MemoryError.
    """
    names = sorted(tensors, key=lambda name: (ORDER.index(tensors[name].dtype), name.encode()))
    header: dict[str, Any] = {} if metadata is None else {_METADATA: dict(metadata)}
    end = 0
    for name in names:
        stored = tensors[name]
        start, end = end, end + stored.content.nbytes
        header[name] = {"dtype": stored.dtype, "shape": list(stored.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    place = 8 + len(text)
    made = bytearray(place + end)
    made[:place] = len(text).to_bytes(8, "little") + text
    into = memoryview(made)
    for name in names:
        content = tensors[name].content
        into[place : place + content.nbytes] = content
        place += content.nbytes
    return made


def read(path: str | PathLike[str]) -> tuple[bytes, dict[str, object]]:
    """The bytes of a safetensors file, and what the JSON of its metadata says, without the seal.

    Raises WeightsError (E082) when it cannot be read, is no safetensors file, or was changed after it was sealed.
    """
    name = fspath(path)
    try:
        content = foreign.read(path)
        entries = _header(content).get(_METADATA, {})
        described = foreign.parse(entries.get(ENTRY, "{}")) if isinstance(entries, dict) else None
    except OSError as error:
        raise WeightsError("E082", f"`{name}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError("E082", f"`{name}` is not a whole safetensors file", hint=_format(path)) from error
    described = described if isinstance(described, dict) else {}
    seal = described.pop(seals.NAME, None)
    if seals.intact(content) is False or (seal is not None and not seals.is_seal(seal)):
        raise WeightsError(
            "E082",
            f"`{name}` is damaged: its content is not what was written",
            hint="take it from a copy, or run what wrote it again",
        )
    return content, described


def described(path: str | PathLike[str]) -> dict[str, object]:
    """What the JSON of a file's metadata says, without its seal; the tensors are not read, and nothing is proved.

    Raises WeightsError (E082) as `read`.
    """
    name = fspath(path)
    try:
        length = int.from_bytes(foreign.beginning(path, 8), "little")
        header = _header(foreign.beginning(path, 8 + min(length, foreign.MAX_JSON)))
        entries = header.get(_METADATA, {})
        found = foreign.parse(entries.get(ENTRY, "{}")) if isinstance(entries, dict) else None
    except OSError as error:
        raise WeightsError("E082", f"`{name}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError("E082", f"`{name}` is not a whole safetensors file") from error
    return {key: value for key, value in found.items() if key != seals.NAME} if isinstance(found, dict) else {}


def metadata(described: Mapping[str, object]) -> dict[str, str]:
    """The entries that a run keeps with its weights, from what the JSON of a file's metadata says."""
    found = described.get("metadata", {})
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def arrays(content: bytes) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """The tensors of a file that `read` gave, as far as they are floats that numpy knows.

    Raises WeightsError (E082) when their places in the file are wrong.
    """
    import numpy as np

    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    try:
        for name, entry in _header(content).items():
            if name != _METADATA and entry["dtype"] in _DTYPES:
                begin, end = (int(n) for n in entry["data_offsets"])
                shape = tuple(int(n) for n in entry["shape"])
                if not 0 <= begin <= end <= len(content) - start:
                    raise ValueError(name)
                flat = np.frombuffer(content[start + begin : start + end], _DTYPES[entry["dtype"]])
                if flat.size != math.prod(shape):
                    raise ValueError(name)
                found[name] = flat.reshape(shape)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError("E082", "the file is not a whole safetensors file") from error
    return found


def _header(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(len(content) - 8, foreign.MAX_JSON):
        raise foreign.UnreadableError("its header is cut off")
    found = foreign.parse(content[8 : 8 + length])
    if not isinstance(found, dict):
        raise foreign.UnreadableError("its header has another shape")
    return found


def _format(path: str | PathLike[str]) -> str:
    try:
        start = foreign.read(path)[:4]
    except (OSError, ValueError) as error:
        return f"it cannot be read: {error}"
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return (
            "it is a pickle, which can run code when loaded and is not accepted: load it where you trust it and "
            "save its state_dict with safetensors.torch.save_file"
        )
    return "it is damaged, cut off, or of another format"
