"""`python -m benchmarks.placement.science`: what the table says, written into docs/science.md and its plots.

Each table of the page stands behind a line `<!-- table NAME -->` and is replaced; the text around it is left alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.placement import pictures
from benchmarks.placement.tables import TABLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "science.md"

_PLACE = re.compile(r"<!-- table (?P<name>[^>]*?) -->\n\n(?:\|[^\n]*\n)*")


def rewritten(page: str) -> str:
    """The page with every table as the kept values give it. Raises KeyError for a table that nothing makes."""
    return _PLACE.sub(lambda m: f"<!-- table {m['name']} -->\n\n{TABLES[m['name']]()}", page)


def main() -> None:
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    pictures.draw(PAGE.parent)


if __name__ == "__main__":
    main()
