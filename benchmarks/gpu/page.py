"""The part of docs/gpu.md that a run on a device writes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from bcgraph.files import write_text
from benchmarks.harness import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"
TABLE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.csv"

BEGIN, END = "<!-- measured by python -m benchmarks gpu -->\n", "<!-- end of what was measured -->\n"

UNMEASURED = """
Not measured on a device yet. On a machine with a GPU, this command measures in less than eight minutes, and writes the
tables here:

<!-- not run: it needs a GPU -->

```console
$ python -m benchmarks gpu
```

"""

HEAD = "| what | bcgraph | against | ratio | goal |\n|---|--:|--:|--:|--:|\n"


def section(device: str, parts: Sequence[tuple[str, Sequence[Row]]], dropped: Sequence[str]) -> str:
    """The text of all parts that were measured, and the names of those that were not."""
    text = [f"\nMeasured on {device} by `python -m benchmarks gpu`.\n"]
    for name, rows in parts:
        lines = [f"| {r.what} | {r.ours} | {r.against} | {r.ratio} | {r.goal} |\n" for r in rows]
        text.append(f"\n### {name[:1].upper()}{name[1:]}\n\n{HEAD}{''.join(lines)}")
    if dropped:
        text.append(f"\nNot measured, for lack of time or of what they need: {'; '.join(dropped)}.\n")
    return f"{''.join(text)}\n"


def fill(text: str, measured: str) -> str:
    """The page with `measured` in the place of what was there."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no place between `{BEGIN.strip()}` and `{END.strip()}`")
    return f"{before}{BEGIN}{measured}{END}{after}"


def write(page: Path, measured: str) -> None:
    """Write the measured part of a page; a page that is not there begins with it."""
    text = page.read_text(encoding="utf-8") if page.exists() else f"{BEGIN}{END}"
    write_text(page, fill(text, measured))


Parts = list[tuple[str, list[Row]]]
"""What was measured: the name of each part, and its rows."""

_DEVICE = "part, on "


def write_table(path: Path, device: str, parts: Sequence[tuple[str, Sequence[Row]]]) -> None:
    """Write all rows as one table, with the device in its first line."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow((f"{_DEVICE}{device}", "what", "ours", "against", "ratio", "goal"))
    for name, rows in parts:
        table.writerows((name, row.what, row.ours, row.against, row.ratio, row.goal) for row in rows)
    write_text(path, text.getvalue())


def read_table(path: Path, device: str) -> Parts:
    """What `write_table` wrote; nothing where no file is there. Raises ValueError for a table of another device."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        (head, *_), *rows = csv.reader(stream)
    measured = head.removeprefix(_DEVICE)
    if measured != device:
        raise ValueError(f"{path} was measured on {measured}; this is {device}: give another --table")
    found: dict[str, list[Row]] = {}
    for name, *row in rows:
        found.setdefault(name, []).append(Row(*row))
    return list(found.items())
