"""What the tables of the other data sets say: placements, and the rules that need no network."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from bcgraph import dsl
from benchmarks.placement import predictors, records
from benchmarks.placement.predictors import Pairs
from benchmarks.placement.text import markdown

HERE = Path(__file__).parent
SPECS = HERE.parents[1] / "specs"
TABLES_OF: Mapping[str, tuple[Path, Path]] = {
    "digits_rows": (records.TABLE, SPECS / "tiny_digits_rows.bcg"),
    "japanese_vowels": (HERE / "japanese_vowels.csv", SPECS / "tiny_japanese_vowels.bcg"),
    "fashion_rows": (HERE / "fashion_rows.csv", SPECS / "tiny_fashion_rows.bcg"),
    "plain_digits_rows": (HERE / "plain_digits_rows.csv", SPECS / "tiny_plain_digits_rows.bcg"),
}
"""The training runs of each data set, and the file that says what was trained."""

VALUES_OF: Mapping[str, Path] = {
    "digits_rows": HERE / "predictors.csv",
    "japanese_vowels": HERE / "japanese_vowels_predictors.csv",
    "fashion_rows": HERE / "fashion_rows_predictors.csv",
    "plain_digits_rows": HERE / "plain_digits_rows_predictors.csv",
}
"""What predictors say of the architectures of each table."""

RULES = ("connections - distance", "number of connections", "fewest operations")


@cache
def accuracies(name: str) -> dict[Pairs, list[float]]:
    """The accuracies of each architecture that the table has."""
    table, spec = TABLES_OF[name]
    found = records.read(table)
    assert {record.settings for record in found} == {records.settings_of(dsl.load(spec))}
    return {predictors.pairs(key): values for key, values in records.by_architecture(found).items()}


def is_whole(name: str) -> bool:
    """Whether the table has every architecture."""
    return len(accuracies(name)) == 121


def placements(name: str) -> str:
    """The best and the worst, each connection alone, and none; where only those are there, all of them."""
    found = accuracies(name)
    order = sorted(found, key=lambda pairs: (-statistics.mean(found[pairs]), pairs))
    rows = []
    for rank, pairs in enumerate(order, start=1):
        if rank <= 5 or rank > len(order) - 3 or len(pairs) < 2:
            values = found[pairs]
            label = ", ".join(f"{j}->{i}" for j, i in pairs) or "none"
            spread = f"{statistics.stdev(values):.3f}" if len(values) > 1 else "-"
            rows.append((rank, label, f"{statistics.mean(values):.3f}", spread, len(values)))
    header = ("rank", "connections", "mean accuracy", "deviation between seeds", "seeds")
    return markdown(header, rows, right=(0, 2, 3, 4))


def rules() -> str:
    """How the rules rank each whole table, and how much of it simple models explain."""
    rows = []
    for name, (table, spec) in TABLES_OF.items():
        if not is_whole(name):
            continue
        judged, shares = predictors.judged(table, None, spec)
        by = {each.name: each for each in judged}
        cells = [f"{by[rule].kendall:+.2f} ({by[rule].low:+.2f} to {by[rule].high:+.2f})" for rule in RULES]
        rows.append((name, *cells, f"{by[RULES[0]].tenth:.0%}", *(f"{share:.0%}" for share in shares.values())))
    header = (
        "table",
        "connections minus distance",
        "number of connections",
        "fewest operations",
        "favorite of the rule in the best tenth",
        "explained by single connections, added",
        "by connections, distance and target",
    )
    return markdown(header, rows, right=range(1, len(header)))


NAMES = {
    "fewest operations": "fewest operations",
    "number of connections": "number of connections",
    "connections - distance": "connections minus distance: the rule",
    "late locality": "the same, then later targets: late locality",
    "n": "N-score",
    "e": "E-score",
    "naswot": "`naswot`",
    "snip": "`snip`",
    "grad_norm": "`grad_norm`",
    "supernet20": "supernet, 20 epochs",
    "supernet20r8": "the same, recalibrated",
    "short9": "trained for a ninth of the epochs",
    "short3": "trained for a third of the epochs",
    "e, additive": "E-score, additive",
    "supernet20, additive": "supernet, additive",
    "short3, additive": "a third of the epochs, additive",
    "e + supernet20": "E-score + supernet, by added ranks",
    "e + supernet20, additive": "the same, additive",
    "e + rule": "E-score + rule",
    "supernet20 + rule": "supernet + rule",
    "e + supernet20 + rule": "E-score + supernet + rule",
    "short3 + rule": "a third of the epochs + rule",
}
"""The predictors that are judged on every table, as the page names them."""


def judged() -> str:
    """What each predictor is worth on each table: Kendall and its interval, what it adds to the rule, its favorites."""
    found = {}
    for name, (table, spec) in TABLES_OF.items():
        values = VALUES_OF[name]
        rows, _ = predictors.judged(table, values if values.exists() else None, spec)
        found[name] = {row.name: row for row in rows}
    lines = []
    for name, label in NAMES.items():
        cells = []
        for by in found.values():
            one = by.get(name)
            if one is None:
                cells.append("")
                continue
            added = "" if one.partial is None else f"; {one.partial:+.2f}"
            cells.append(
                f"{one.kendall:+.2f} ({one.low:+.2f} to {one.high:+.2f}){added}; {one.tenth:.0%} of {one.seeds}"
            )
        lines.append((label, *cells))
    return markdown(("predictor", *found), lines, right=range(1, 1 + len(found)))


TABLES: Mapping[str, Callable[[], str]] = {
    "judged": judged,
    "placements, japanese_vowels": lambda: placements("japanese_vowels"),
    "placements, fashion_rows": lambda: placements("fashion_rows"),
    "placements, plain_digits_rows": lambda: placements("plain_digits_rows"),
    "rules": rules,
}
