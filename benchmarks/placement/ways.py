"""`python -m benchmarks.placement.ways`: what the kept tries say, written into docs/placing-feedback.md.

Each table of the page stands behind a line `<!-- ways NAME -->` and is replaced; the text around it is left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.placement import rows
from benchmarks.placement.gains import HEADER, SEEDS, Try, common_seeds, rows_of
from benchmarks.placement.other_tables import TABLES_OF
from benchmarks.placement.text import markdown, p_value

PAGE = Path(__file__).resolve().parents[2] / "docs" / "placing-feedback.md"

KEPT: Mapping[str, Path] = {name: Path(__file__).with_name(f"{name}_ways.csv") for name in TABLES_OF}
"""The tries that are kept, by data set."""

COMPARED = "gains 4"
"""What every other way is compared with."""

_PLACE = re.compile(r"<!-- ways (?P<name>\w+) -->\n\n(?:\d+ seeds?:\n\n)?(?:\|[^\n]*\n)*")


def table(tries: Sequence[Try], least: int = SEEDS) -> str:
    """The ways with at least `least` seeds, each compared with `gains 4` by a paired t-test over the seeds."""
    number = Counter(t.way for t in tries)
    whole = [t for t in tries if number[t.way] >= least]
    accuracy = {(t.way, t.seed): t.accuracy for t in whole}
    seeds, lines = rows_of(whole)
    made = []
    for line in lines:
        pairs = [(accuracy[COMPARED, seed], accuracy[line[0], seed]) for seed in common_seeds(whole)]
        ahead = sum(own - other for own, other in pairs) / len(pairs)
        text = "" if line[0] == COMPARED else f"{ahead:+.3f} ({p_value(*zip(*pairs, strict=True))})"
        made.append((*line, text))
    header = (*HEADER, f"`{COMPARED}` beside it")
    return f"{seeds} seed{'s' * (seeds != 1)}:\n\n{markdown(header, made, right=range(1, len(header)))}"


def rewritten(page: str) -> str:
    """The page with every table as the kept tries give it. Raises KeyError for a table that nothing makes."""
    return _PLACE.sub(lambda m: f"<!-- ways {m['name']} -->\n\n{table(rows.read(KEPT[m['name']], Try))}", page)


def main() -> None:
    """The command."""
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
