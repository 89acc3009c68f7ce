"""Tables of a page, and what stands in their cells."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import ttest_rel


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> str:
    """A table; the columns in `right` stand to the right."""
    marks = ["--:" if column in right else "---" for column in range(len(header))]
    lines = [header, marks, *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def p_value(own: Sequence[float], other: Sequence[float]) -> str:
    """The p of a paired t-test, in words."""
    if list(own) == list(other):
        return "equal"
    value = float(ttest_rel(own, other).pvalue)
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
