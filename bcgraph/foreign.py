"""Reading what others may have written: bounded in size and depth, with one error for all that can be wrong.

A file of a run, a model's metadata, an audit: any of them may be damaged, of another shape, or no file at all. A path
is opened without waiting (a pipe or a device is refused), JSON is parsed to a bounded depth and without `Infinity`,
and its shape is checked by pydantic. Whoever asks turns `UnreadableError` into a located error of its own.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

MAX_JSON = 64 * 1024 * 1024
MAX_DEPTH = 64

_BOM = b"\xef\xbb\xbf"

# A string, or a bracket outside of all strings.
_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)

# What the shell and the system give in the place of a file: a pipe or a stream that the user asked to be read.
_STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


class UnreadableError(ValueError):
    """What was read is not what it should be; the message is half a sentence about it."""


class TooLargeError(UnreadableError):
    """What was read is larger than it may be."""


def read(path: str | os.PathLike[str], limit: int | None = None, *, streams: bool = False) -> bytes:
    """The content of a regular file, of at most `limit` bytes.

    Raises OSError when it cannot be opened, UnreadableError when it is larger, or no regular file: a pipe would be
    waited for, a device might never end. With `streams`, what the shell passes as `/dev/fd/N` may be read.
    """
    with _opened(path, streams=streams) as stream:
        if limit is None:
            return stream.read()
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(f"it is larger than {limit:,} bytes")
    return content


def beginning(path: str | os.PathLike[str], size: int) -> bytes:
    """The first `size` bytes of a regular file, or all of a shorter one. Raises as `read`."""
    with _opened(path) as stream:
        return stream.read(size)


@contextmanager
def _opened(path: str | os.PathLike[str], *, streams: bool = False) -> Iterator[BinaryIO]:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as stream:  # noqa: PTH123  (a handle, no path)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(21, "Is a directory")
            if not (streams and os.fspath(path).startswith(_STREAMS)):
                raise UnreadableError("it is not a regular file")
            os.set_blocking(handle, True)
        yield stream


def text(content: bytes) -> str:
    """UTF-8, with or without a byte order mark. Raises UnreadableError for anything else."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte {error.start} is not UTF-8") from None


def parse(content: bytes | str) -> Any:
    """JSON as plain data: at most `MAX_DEPTH` deep, all numbers finite. Raises UnreadableError."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if _depth(raw) > MAX_DEPTH:
        raise UnreadableError(f"it is nested more than {MAX_DEPTH} deep")
    try:
        return json.loads(text(raw), parse_constant=_constant, parse_float=_finite)
    except ValueError as error:
        raise UnreadableError(f"it is no JSON: {error}") from None


def load(path: str | os.PathLike[str], shape: TypeAdapter[T]) -> T:
    """The JSON file at `path`, which must have a shape. Raises OSError and UnreadableError."""
    return from_json(without_mark(read(path, MAX_JSON)), shape)


def checked(data: Any, shape: TypeAdapter[T]) -> T:
    """Plain data as what `shape` says it is. Raises UnreadableError that names the first place that differs."""
    with _named():
        return shape.validate_python(data)


def from_json(content: bytes | str, shape: TypeAdapter[T]) -> T:
    """JSON, within the bounds of `parse`, as what `shape` says it is. Raises UnreadableError."""
    parse(content)
    with _named():
        return shape.validate_json(content)


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UnreadableError(f"{place}: {first['msg']}" if place else first["msg"]) from None
    except (RecursionError, OverflowError):
        raise UnreadableError("it has another shape") from None


def without_mark(content: bytes) -> bytes:
    """The content without a byte order mark."""
    return content.removeprefix(_BOM)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a regular file; False also for a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def _depth(content: bytes) -> int:
    deepest = depth = 0
    for found in _MARKS.finditer(content):
        first = found.group()[0]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(written: str) -> float:
    value = float(written)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{written[:20]} is too large")
    return value
