"""The bounds of a search (`subject_to`) on what a candidate costs, decided before it is evaluated.

Those on what is measured are in `bcgraph.search.records.objectives`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from bcgraph.errors import SearchError
from bcgraph.profile import profile
from bcgraph.schema import NetworkSpec
from bcgraph.schema.search import Bound
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.search_space import Architecture, of_search, wired


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound in numbers: the most that `bound.metric` may be, and what it is for the file's own network."""

    bound: Bound
    most: float
    baseline: int

    def __str__(self) -> str:
        return f"`{self.bound}` ({self.most:,.10g})" if self.bound.factor else f"`{self.bound}`"


def costs(spec: NetworkSpec) -> dict[str, int]:
    """The metrics that bounds compare, for one sample: see `bcgraph.profile`.

    `parameters` counts trained values, `operations` multiply-accumulates of one step, `state` the numbers that the step
    form carries from one step to the next.
    """
    found = profile(spec)
    return {"parameters": found.parameters, "operations": found.operations, "state": found.state_values}


@dataclass
class Limits:
    """All bounds of a search that cost no evaluation, and how many candidates broke each of them first."""

    limits: tuple[Limit, ...] = ()
    rejected: Counter[Bound] = field(default_factory=Counter)
    _known: dict[Architecture, Bound | None] = field(default_factory=dict)

    @staticmethod
    def of(spec: NetworkSpec) -> Limits:
        """The bounds of the search of `spec`. Raises SearchError (E067) for one that no candidate keeps within."""
        bounds = [bound for bound in spec.search.subject_to if bound.costs_nothing]
        if not bounds:
            return Limits()
        own = costs(spec)
        found = [Limit(b, b.factor * own[b.metric] + b.constant, own[b.metric]) for b in bounds]
        # No connection costs less than nothing: the least are those that are always there.
        least = costs(wired(spec, tuple(of_search(spec).fixed)))
        wrong = [_impossible(limit, least[limit.bound.metric]) for limit in found if _beyond(limit, least)]
        if wrong:
            raise SearchError.of(d for error in wrong for d in error.diagnostics)
        return Limits(tuple(found))

    @property
    def none(self) -> bool:
        """Whether there are no bounds."""
        return not self.limits

    def allows(self, candidate: Candidate) -> bool:
        """Whether a candidate keeps within all bounds; counts it for the first one that it breaks."""
        broken = self._broken(candidate)
        if broken is not None:
            self.rejected[broken] += 1
        return broken is None

    def keeps(self, candidate: Candidate) -> bool:
        """The same without counting."""
        return self._broken(candidate) is None

    def _broken(self, candidate: Candidate) -> Bound | None:
        if not self.limits:
            return None
        key = candidate.architecture
        if key not in self._known:
            found = costs(candidate.spec)
            self._known[key] = next((limit.bound for limit in self.limits if _beyond(limit, found)), None)
        return self._known[key]

    def notes(self, stage: str) -> list[str]:
        """For each bound how many candidates of a stage were left out for it."""
        return [
            f"{stage}: {count:,} draws broke `{bound}` and were not evaluated" for bound, count in self.rejected.items()
        ]


def _beyond(limit: Limit, found: dict[str, int]) -> bool:
    return found[limit.bound.metric] > limit.most


def _impossible(limit: Limit, least: int) -> SearchError:
    metric = limit.bound.metric
    least_text = f"{least:,}"
    factor = math.ceil(1e4 * least / limit.baseline) / 1e4
    needed = f"{factor:g} * baseline" if limit.bound.factor else f"{least}"
    return SearchError(
        "E067",
        f"{limit} leaves nothing: in every network of the space {metric} is {least_text} or more, "
        f"{least - limit.most:,.10g} too much",
        span=limit.bound.span,
        notes=(f"the baseline, the network of the file, has {limit.baseline:,}",),
        hint=f"at least `{metric} <= {needed}`",
    )
