"""The standard streams, whatever they are: closed, full, a socket, or a terminal that obeys what it is sent.

Results that cannot be written end a command (E084). Messages that cannot be written are dropped: the exit code says it.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import sys
from contextlib import suppress
from typing import IO, TextIO

from bcgraph.errors import RunError

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing: controls but for tab and line feed, and marks that turn a line around."""


class _Closed(io.TextIOBase):
    """A standard stream that was closed when the command began."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.EBADF, "it is closed")

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        raise OSError(errno.EBADF, "it is closed")

    def __next__(self) -> str:  # type: ignore[override]
        return self.readline()

    @property
    def buffer(self) -> IO[bytes]:
        raise OSError(errno.EBADF, "it is closed")


class _Messages(io.TextIOWrapper):
    """Standard error that drops what it cannot take, whoever writes to it."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            drop(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            drop(self)


def prepare() -> None:
    """Make the three streams usable, and let any text through to any terminal."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            kind = os.fstat(number).st_mode
        except OSError:
            # Or the next file that is opened would take its place, and be read or printed to.
            _nothing(number)
        else:
            # Editors hand over sockets, and these may not wait.
            with suppress(OSError):
                if stat.S_ISSOCK(kind):
                    os.set_blocking(number, True)
        if getattr(sys, name) is None:
            closed = open(os.devnull, "w") if name == "stderr" else _Closed()  # noqa: PTH123, SIM115
            setattr(sys, name, closed)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if type(sys.stderr) is io.TextIOWrapper:
        encoding = sys.stderr.encoding
        sys.stderr = _Messages(sys.stderr.detach(), encoding, "backslashreplace", line_buffering=True)


def printable(text: str) -> str:
    """`text` with escapes in the place of what a terminal would obey."""
    return OBEYED.sub(_escaped, text)


def write_out(text: str) -> None:
    """Write to standard output. Raises RunError (E084) when it takes no more, BrokenPipeError when nobody reads."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop(sys.stdout)
        raise unwritable(error) from None


def write_error(text: str) -> None:
    """Write to standard error, or nothing when it takes no more."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def unwritable(error: OSError) -> RunError:
    """The error for standard output that takes no more (E084)."""
    return RunError("E084", f"standard output cannot be written: {error.strerror or error}")


def drop(stream: TextIO) -> None:
    """Drop what a stream still holds, or Python complains once more when it flushes at exit."""
    with suppress(OSError, ValueError):
        _nothing(stream.fileno())


def _nothing(number: int) -> None:
    """Have a stream read nothing and write to nowhere."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
