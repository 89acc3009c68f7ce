"""Several supernets of one search, which differ in their seed, and the mean of what candidates reach on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from bcgraph import keys
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Evaluation, Measure
from bcgraph.search.strategies.evolution import Evaluate
from bcgraph.search.supernet.checkpoint import WEIGHTS
from bcgraph.search.supernet.supernet import Supernet, SupernetEpoch

FOLDER = "supernets"


def seeds(seed: int, number: int) -> tuple[int, ...]:
    """The seeds of the supernets of a search: its own first, so that one supernet alone is what it always was."""
    return (seed, *(keys.derive(seed, "supernet", "seed", place) for place in range(1, number)))


def folders(out: Path, number: int) -> tuple[Path, ...]:
    """Where the supernets of the search in `out` have their files: the first beside those of the search."""
    return (out, *(out / FOLDER / str(place) for place in range(2, number + 1)))


def trained(spec: NetworkSpec, out: Path) -> bool:
    """Whether all supernets of the search in `out` have written their weights."""
    return all((folder / WEIGHTS).exists() for folder in folders(out, spec.search.supernet.seeds))


@dataclass(frozen=True, eq=False)
class Run:
    """A supernet and the folder in which it is trained."""

    supernet: Supernet
    folder: Path


TrainSupernets: TypeAlias = Callable[[Sequence[Run], Callable[[Run, SupernetEpoch], None]], None]
"""Trains supernets, or resumes them; they then have the weights. The callback is called after each epoch of each."""


@dataclass(eq=False)
class Count:
    """Counts the epochs of all supernets together and calls `report` with the sum."""

    report: Callable[[int], None]
    done: dict[Run, int] = field(default_factory=dict)

    def __call__(self, run: Run, epoch: SupernetEpoch) -> None:
        """After an epoch of a supernet."""
        self.done[run] = epoch.epoch
        self.report(sum(self.done.values()))


@dataclass(frozen=True, eq=False)
class Mean:
    """Evaluates by each of `parts`, which have the same `measures`, and takes the mean.

    A candidate that fails in one of them has failed.
    """

    parts: tuple[Evaluate, ...]
    measures: tuple[Measure, ...] = ("accuracy",)

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each spec, in order."""
        for found in zip(*(part(specs) for part in self.parts), strict=True):
            yield mean(found, self.measures)


def mean(found: Sequence[Evaluation], measures: Sequence[Measure]) -> Evaluation:
    """The mean of the evaluations of one candidate; it keeps its terms as `samples`."""
    terms = {measure: tuple(each.value(measure) for each in found) for measure in measures}
    reasons = dict(reason for each in reversed(found) for reason in each.reasons)
    return Evaluation.of(
        {measure: sum(values) / len(values) for measure, values in terms.items()},
        reasons=tuple(reasons.items()),
        samples=tuple(terms.items()),
    )


def of(parts: Sequence[Evaluate], measures: tuple[Measure, ...] = ("accuracy",)) -> Evaluate:
    """The evaluator of the only supernet, or the mean of those of several."""
    return parts[0] if len(parts) == 1 else Mean(tuple(parts), measures)
