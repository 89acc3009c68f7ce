"""The log of a run: one JSON line for each evaluation and each note.

A resumed run continues from the log, and reports read nothing else. One call writes a whole line, so a kill leaves at
most one torn line, the last. A resumed run cuts it off and repeats that evaluation.

Each line ends with a digest of itself and of all lines before it, so that a line which was changed, added or taken out
is named. Lines of earlier versions have none; the first line after them has a digest of them, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bcgraph import foreign
from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.files import cannot_write
from bcgraph.search.records.evaluations import Note, Record
from bcgraph.search.records.order import Order

NAME = "log.jsonl"

_MAX_LOG = 4 * 1024**3
_DIGEST_BYTES = 8
_DIGEST = b', "digest": "%s"}'
_SEALED = re.compile(rb'(.*), "digest": "([0-9a-f]{16})"\}', re.DOTALL)

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
    _chain: bytes
    _end: int
    _flushed: float = field(default_factory=time.monotonic)

    @staticmethod
    def open(directory: Path, run: str = "", search: Mapping[str, Any] | None = None) -> Log:
        """Open or create the log of a run; `run` and `search` are those of `read`.

        Raises RunError: E084 when it cannot be written, E085 when it is damaged or holds what no search writes.
        """
        path = directory / NAME
        whole = _whole(path)
        history, chain = _parse(whole, path, run, search)
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o666)
            os.ftruncate(handle, len(whole))
        except OSError as error:
            raise cannot_write(path, error) from error
        return Log(path, history, handle, chain, len(whole))

    def append(self, entry: Record | Note) -> None:
        """Write one entry. Raises RunError: E084, and E086 when another process writes to the log, too."""
        data = (
            {"kind": "evaluation", **entry.as_data(), "seconds": round(entry.seconds, 6)}
            if isinstance(entry, Record)
            else {"kind": "note", "text": entry.text}
        )
        body = json.dumps(data, allow_nan=False).encode()[:-1]
        chain = _link(self._chain, body)
        line = body + _DIGEST % chain.hex().encode() + b"\n"
        try:
            self._alone(self._end)
            if os.write(self._handle, line) != len(line):
                os.ftruncate(self._handle, self._end)
                raise OSError(28, "no space left on device")
            self._alone(self._end + len(line))
            self._chain, self._end = chain, self._end + len(line)
            if time.monotonic() - self._flushed > _FLUSH_EVERY:
                self.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _alone(self, end: int) -> None:
        """Raise RunError (E086) unless the log is where it was and ends where this process has left it."""
        held = os.fstat(self._handle)
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        if held.st_size != end or there is None or (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino):
            raise RunError(
                "E086",
                f"another process has changed `{self.path}` while this search wrote to it",
                hint="let one process write to a run directory; to see what the log holds, use `bcgraph report`",
            )

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


def read(directory: Path, run: str = "", search: Mapping[str, Any] | None = None) -> History:
    """The history of a run, also while it is running.

    `run` is the name that its digests begin from, `search` its settings as plain data: with them evaluations are found
    that no search with these settings makes. Raises RunError (E085) when the log is damaged.
    """
    path = directory / NAME
    return _parse(_whole(path), path, run, search)[0]


def _whole(path: Path) -> bytes:
    """The whole lines of a log."""
    try:
        data = foreign.read(path, _MAX_LOG)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise RunError("E085", f"cannot read `{path}`: {error.strerror}") from error
    except foreign.UnreadableError as error:
        raise RunError("E085", f"`{path}` cannot be read: {error}") from error
    return data[: data.rfind(b"\n") + 1]


def _parse(data: bytes, path: Path, run: str, search: Mapping[str, Any] | None) -> tuple[History, bytes]:
    """What the lines of a log hold, and the digest that the next line continues."""
    records: list[Record] = []
    notes: list[Note] = []
    order = Order(search)
    chain = _link(b"", run.encode())
    digests = False
    for number, line in enumerate(foreign.without_mark(data).splitlines(), 1):
        body, digest = _split(line)
        chain = _link(chain, body)
        if digest is None and (digests or b'"digest"' in line):
            raise _damaged(path, number, "it has no digest where others have one")
        if digest is not None and digest != chain.hex():
            raise _damaged(path, number, "it, or a line before it, is not what the search wrote")
        digests = digest is not None
        try:
            entry = _entry(foreign.parse(body + b"}" if digests else body))
        except ValueError as error:
            raise _damaged(path, number, str(error)) from error
        if isinstance(entry, Record):
            flaw = order.flaw(entry)
            if flaw is not None:
                raise _damaged(path, number, flaw)
            records.append(entry)
        else:
            notes.append(entry)
    if (records or notes) and not digests:
        warnings.warn(
            f"`{path}` is of an earlier version, without digests: its values are taken as they are",
            BcgraphWarning,
            stacklevel=2,
        )
    return History(tuple(records), tuple(notes)), chain


def _link(chain: bytes, body: bytes) -> bytes:
    """The digest of a line, which all lines before it go into."""
    return hashlib.sha256(chain + body).digest()[:_DIGEST_BYTES]


def _split(line: bytes) -> tuple[bytes, str | None]:
    """A line without its digest (and then without its last brace), and the digest."""
    found = _SEALED.fullmatch(line)
    return (line, None) if found is None else (found[1], found[2].decode())


def _damaged(path: Path, number: int, why: str) -> RunError:
    return RunError(
        "E085",
        f"line {number} of `{path}` is damaged: {why}",
        hint="only the last line of a log may be torn; take the log from a copy, or start in a new directory",
    )


def _entry(data: Any) -> Record | Note:
    if not isinstance(data, dict):
        raise ValueError("it is no object")
    kind = data.get("kind")
    if kind == "note" and isinstance(data.get("text"), str):
        return Note(data["text"])
    if kind == "evaluation":
        return Record.from_data(data)
    raise ValueError("it is neither an evaluation nor a note")
