"""The log of a run: one JSON line for each evaluation and each note.

A resumed run continues from the log, and reports read nothing else. One call writes a whole line, so a kill leaves at
most one torn line, the last. A resumed run cuts it off and repeats that evaluation.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bcgraph.errors import RunError
from bcgraph.files import cannot_write
from bcgraph.search.records.evaluations import Note, Record

NAME = "log.jsonl"

# Seconds between two flushes to the disk: what a power failure may lose. A killed process loses nothing.
_FLUSH_EVERY = 1.0


@dataclass(frozen=True)
class History:
    """The content of a log: its records in order, and its notes."""

    records: tuple[Record, ...] = ()
    notes: tuple[Note, ...] = ()

    def stage(self, name: str) -> list[Record]:
        """The records of one stage, in order."""
        return [r for r in self.records if r.stage == name]


@dataclass
class Log:
    """A log opened for appending; `history` is what it held before. Only the holder of the run's lock may open one."""

    path: Path
    history: History
    _handle: int
    _flushed: float = field(default_factory=time.monotonic)

    @staticmethod
    def open(directory: Path) -> Log:
        """Open or create the log of a run. Raises RunError: E084 when it cannot be written, E085 when it is damaged."""
        path = directory / NAME
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o666)
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.ftruncate(handle, len(whole))
        except OSError as error:
            raise cannot_write(path, error) from error
        return Log(path, _parse(whole, path), handle)

    def append(self, entry: Record | Note) -> None:
        """Write one entry. Raises RunError (E084)."""
        data = (
            {"kind": "evaluation", **entry.as_data(), "seconds": round(entry.seconds, 6)}
            if isinstance(entry, Record)
            else {"kind": "note", "text": entry.text}
        )
        line = json.dumps(data, allow_nan=False).encode() + b"\n"
        try:
            end = os.fstat(self._handle).st_size
            if os.write(self._handle, line) != len(line):
                os.ftruncate(self._handle, end)
                raise OSError(28, "no space left on device")
            if time.monotonic() - self._flushed > _FLUSH_EVERY:
                self.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def flush(self) -> None:
        """Flush everything to the disk."""
        os.fsync(self._handle)
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            os.close(self._handle)


def read(directory: Path) -> History:
    """The history of a run, also while it is running. Raises RunError (E085) when the log is damaged."""
    path = directory / NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return History()
    except OSError as error:
        raise RunError("E085", f"cannot read `{path}`: {error.strerror}") from error
    return _parse(data[: data.rfind(b"\n") + 1], path)


def _parse(data: bytes, path: Path) -> History:
    records: list[Record] = []
    notes: list[Note] = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            entry = _entry(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                "E085",
                f"line {number} of `{path}` is damaged",
                hint="only the last line of a log may be torn; start in a new directory",
            ) from error
        if isinstance(entry, Record):
            records.append(entry)
        else:
            notes.append(entry)
    return History(tuple(records), tuple(notes))


def _entry(data: dict[str, Any]) -> Record | Note:
    if data["kind"] == "note":
        return Note(str(data["text"]))
    if data["kind"] == "evaluation":
        return Record.from_data(data)
    raise ValueError(data["kind"])
