"""What notebooks show of results: tables as HTML, and tables as pandas frames where pandas is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from bcgraph.errors import RunError

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """The rows as a pandas frame. Raises RunError (E092) where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise RunError("E092", "`to_frame` needs pandas", hint="pip install pandas") from None
    return pandas.DataFrame(list(rows))


def table(rows: Sequence[Mapping[str, Any]], *, most: int = 20) -> str:
    """The rows as an HTML table, the first `most` of them; a line below says how many there are."""
    if not rows:
        return ""
    header = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_shown(value))}</td>" for value in row.values()) + "</tr>" for row in rows[:most]
    )
    more = f"<p>{most} of {len(rows)} rows</p>" if len(rows) > most else ""
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>{more}"


def text(summary: str, content: str) -> str:
    """A line that unfolds to a longer text."""
    return f"<details><summary><code>{escape(summary)}</code></summary><pre>{escape(content)}</pre></details>"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
