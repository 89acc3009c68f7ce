"""Rows of a CSV file: frozen values of one class, a line each, with a column for each of its fields."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from bcgraph import files

Row = TypeVar("Row")

_READ: dict[type, Callable[[str], Any]] = {bool: lambda text: text == "True", int: int, float: float, str: str}


def read(path: Path, kind: type[Row]) -> tuple[Row, ...]:
    """The rows in a file, none where there is no file. Raises ValueError for a file of something else."""
    if not path.exists():
        return ()
    types = get_type_hints(kind)
    names = _names(kind)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if rows.fieldnames != names:
            raise ValueError(f"{path} has other columns than {', '.join(names)}")
        return tuple(kind(**{name: _READ[types[name]](row[name]) for name in names}) for row in rows)


def write(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Replace the file in one step, so that a kill at any time leaves the old or the new one whole."""
    stream = io.StringIO()
    lines = csv.DictWriter(stream, _names(kind), lineterminator="\n")
    lines.writeheader()
    lines.writerows(asdict(row) for row in rows)  # type: ignore[call-overload]
    files.write_text(path, stream.getvalue())


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]
