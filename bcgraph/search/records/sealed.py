"""JSON files of a run, sealed: an object whose entry `seal` notices that anything in the file was changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from bcgraph import files, foreign, seals

T = TypeVar("T")


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Write an object. Raises RunError (E084)."""
    text = json.dumps({**data, seals.NAME: seals.BLANK}, indent=1, allow_nan=False) + "\n"
    files.write_bytes(path, seals.seal(text.encode()))


def read(path: Path, shape: TypeAdapter[T]) -> T:
    """The object at `path`, without its seal; one of an earlier version has none.

    Raises OSError, and UnreadableError when it was changed or has another shape.
    """
    content = foreign.read(path, foreign.MAX_JSON)
    data = foreign.parse(content)
    seal = data.pop(seals.NAME, None) if isinstance(data, dict) else None
    if seals.intact(content) is False or (seal is not None and not seals.is_seal(seal)):
        raise foreign.UnreadableError("its content is not what was written")
    return foreign.checked(data, shape)
