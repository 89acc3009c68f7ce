"""Seals: a digest inside of a file over all of its bytes, so that a changed bit is noticed when it is read.

The seal is a string somewhere in the file: `bcgraph-sha256:`, 64 hexadecimal digits, a colon, and the size of the file
in 12 digits. The digits before the colon are the SHA-256 of the file with zeros in the place of all these digits. So a
format needs only a place for a string, and reading needs only the bytes. Files of earlier versions and of others have
none.
"""

from __future__ import annotations

import hashlib
import re

NAME = "seal"
"""How formats call the place of the seal."""

_MARK = b"bcgraph-sha256:"
_ZEROS = b"0" * 64 + b":" + b"0" * 12
_SEAL = re.compile(re.escape(_MARK) + rb"([0-9a-f]{64}):([0-9]{12})")

BLANK = (_MARK + _ZEROS).decode()
"""The string to write before the digest is known."""


def seal(content: bytes) -> bytes:
    """`content`, which holds `BLANK` once, with its digest and its size in it."""
    start, digits = _found(content)
    view = memoryview(content)
    return b"".join((view[:start], digits, view[start + len(digits) :]))


def seal_in_place(content: bytearray) -> None:
    """As `seal`, without a copy."""
    start, digits = _found(content)
    content[start : start + len(digits)] = digits


def _found(content: bytes | bytearray) -> tuple[int, bytes]:
    """Where the digits of the seal begin, and what they have to be."""
    start = content.index(BLANK.encode()) + len(_MARK)
    return start, f"{_digest(content, start)}:{len(content):012d}".encode()


def intact(content: bytes) -> bool | None:
    """Whether the seal fits; None when there is none."""
    found = _SEAL.search(content)
    if found is None:
        return None
    same = _digest(content, found.start(1)).encode() == found[1]
    return same and int(found[2]) == len(content)


def rewritten(content: bytes) -> bool:
    """Whether a file whose seal does not fit has another size: a tool has written it anew, or a part of it is lost."""
    found = _SEAL.search(content)
    return found is not None and int(found[2]) != len(content)


def is_seal(value: object) -> bool:
    """Whether a value that was found in the place of the seal is one at all."""
    return isinstance(value, str) and _SEAL.fullmatch(value.encode("utf-8", "replace")) is not None


def _digest(content: bytes | bytearray, start: int) -> str:
    view = memoryview(content)
    found = hashlib.sha256(view[:start])
    found.update(_ZEROS)
    found.update(view[start + len(_ZEROS) :])
    return found.hexdigest()
