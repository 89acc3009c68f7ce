"""Several evaluators as one: each measures its own part of what a search goes by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import MEASURES, Evaluation
from bcgraph.search.records.failures import CANDIDATE_FAILURES, reason_of
from bcgraph.search.space.limits import costs
from bcgraph.search.strategies.evolution import Evaluate


@dataclass(frozen=True, eq=False)
class Composite:
    """Evaluates by all of `parts`, and merges what they find."""

    parts: tuple[Evaluate, ...]

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each spec, in order."""
        for found in zip(*(part(specs) for part in self.parts), strict=True):
            yield merged(found)


def merged(found: Sequence[Evaluation]) -> Evaluation:
    """The evaluations of one candidate, each with other measures, as one."""
    values = {m: v for each in found for m in MEASURES if (v := each.measured(m)) is not None}
    values |= {m: v for each in found for m, v in each.scores}
    reasons = tuple(reason for each in found for reason in each.reasons)
    samples = tuple(sample for each in found for sample in each.samples)
    return Evaluation.of(values, reasons=reasons, samples=samples)


@dataclass(frozen=True, eq=False)
class Costs:
    """Measures what follows from the specification alone: `parameters`, `operations`, `state`."""

    measures: tuple[str, ...]

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each spec, in order."""
        for spec in specs:
            try:
                found = costs(spec)
                yield Evaluation.of({m: float(found[m]) for m in self.measures})
            except CANDIDATE_FAILURES as error:
                yield Evaluation.failed(self.measures, reason_of(error))
