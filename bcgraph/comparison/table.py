"""Groups of training runs beside a base: the rows of `bcgraph compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bcgraph.comparison.runs import Group
from bcgraph.comparison.statistics import Difference, Summary, difference


@dataclass(frozen=True)
class Row:
    """A group, its accuracy over seeds, and how much better it is than the base; None for the base itself."""

    group: Group
    accuracy: Summary
    difference: Difference | None

    def as_data(self) -> dict[str, Any]:
        """Plain data."""
        run = self.group.runs[0]
        return {
            "name": self.group.name,
            "connections": [{"word": c.word, "source": c.source, "target": c.target} for c in run.spec.in_order],
            "epochs": run.spec.train.epochs,
            "runs": [
                {"path": str(each.path), "seed": each.seed, "accuracy": each.accuracy, "finished": each.finished}
                for each in self.group.runs
            ],
            **asdict(self.accuracy),
            "difference": None if self.difference is None else asdict(self.difference),
        }


@dataclass(frozen=True)
class Comparison:
    """Rows in the order in which groups were given; the differences are to the row number `base`."""

    rows: tuple[Row, ...]
    base: int

    @property
    def held_out(self) -> str:
        """On which part of the data the accuracies are."""
        return self.rows[0].group.runs[0].held_out

    def verdicts(self) -> list[str]:
        """What the numbers bear out, a sentence for each row beside the base."""
        base = self.rows[self.base].group.name
        return [f"{row.group.name}: {verdict(row.difference, base)}" for row in self.rows if row.difference is not None]


def compare(groups: Sequence[Group]) -> Comparison:
    """The groups beside the first one without connections, or beside the first one."""
    plain = (place for place, each in enumerate(groups) if not each.runs[0].spec.connections)
    base = next(plain, 0)
    reference = groups[base].by_seed
    rows = [
        Row(each, Summary.of(list(each.by_seed.values())), None if k == base else difference(each.by_seed, reference))
        for k, each in enumerate(groups)
    ]
    return Comparison(tuple(rows), base)


def verdict(found: Difference, base: str) -> str:
    """A sentence on a difference that says no more than its test does."""
    if found.p is None:
        return f"one seed each tells nothing about chance; it is {_signed(found.mean)} beside {base}"
    p = f"p = {found.p:.2g}"
    if not found.sure:
        return f"no difference from {base} beyond chance ({_signed(found.mean)}, {p})"
    return f"{'better' if found.mean > 0 else 'worse'} than {base} by {abs(found.mean):.4f} ({p})"


def _signed(value: float) -> str:
    return f"{value:+.4f}"
