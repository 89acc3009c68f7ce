"""What commands print: results on standard output, messages and progress on standard error.

Of several processes that train together, which all run the same command, only the first prints.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from bcgraph.cli.streams import OBEYED, printable, write_error, write_out

# How Lightning and torchrun number the processes of one training run, and how we note those that Slurm has started.
_RANKS = ("RANK", "LOCAL_RANK", "BCGRAPH_RANK")


def leads() -> bool:
    """Whether this is the first of the processes that share the work, or the only one."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


def emit(text: str, *, exact: bool = False) -> None:
    """Print a result; characters that a terminal would obey are escaped, unless what is asked for is the text itself.

    Raises RunError (E084) when standard output takes no more, BrokenPipeError when it is closed.
    """
    if not leads():
        return
    shown = text if exact and not sys.stdout.isatty() else printable(text)
    write_out(shown if shown.endswith("\n") else shown + "\n")


def emit_json(value: Any) -> None:
    """Print a result as one JSON document; numbers that JSON does not know become null."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    emit(OBEYED.sub(lambda found: f"\\u{ord(found.group()):04x}", text), exact=True)


def say(text: str) -> None:
    """Print a message for the person at the terminal."""
    if leads():
        write_error(printable(text) + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """A plain table: columns aligned with spaces, those numbered in `right` to the right, and a rule below the header.

    The same on a terminal and in a file, so that it can be pasted and compared.
    """
    cells = [[str(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if i in right else v.ljust(w) for i, (v, w) in enumerate(zip(values, widths, strict=True)))
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *map(line, cells)])


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 port`, `5 ports`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def connections(found: Iterable[Sequence[Any]], ports: Sequence[str] = ()) -> str:
    """Connections, each `(source, target)` or a member, as `@4 -> @0, @2 -> @2`; `none` when there are none.

    With the names of the ports, pairs are `lif5 -> lif1`.
    """
    names = ports or _Numbers()
    return ", ".join(f"{names[c[0]]} -> {names[c[1]]}" if len(c) == 2 else str(c) for c in found) or "none"


class _Numbers:
    """Ports by their numbers."""

    def __getitem__(self, port: int) -> str:
        return f"@{port}"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
