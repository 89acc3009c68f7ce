"""A candidate of a search: one value from breeding or drawing to its record."""

from __future__ import annotations

from dataclasses import dataclass, field

from bcgraph.schema import NetworkSpec
from bcgraph.search.space.search_space import Architecture, architecture_of, wired


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network of the search space, and how the search came to it.

    `spec` is what operators breed from and what evaluators measure, `architecture` its connections as the search knows
    them. `origin` is "pool", "selected", "mutation", "crossover", "random", or the name of a strategy. The connections
    of `spec` are in the order of `architecture`, so one architecture breeds in one way. Candidates of one search are
    equal when their architectures are.
    """

    spec: NetworkSpec = field(compare=False, repr=False)
    architecture: Architecture
    origin: str = field(compare=False)

    @staticmethod
    def of(spec: NetworkSpec, origin: str) -> Candidate:
        """The candidate with the connections of `spec`."""
        ordered = tuple(sorted(spec.backward))
        if spec.search.space is None and ordered != spec.backward:
            spec = spec.with_backward(ordered)
        return Candidate(spec, architecture_of(spec), origin)

    @staticmethod
    def at(base: NetworkSpec, architecture: Architecture, origin: str) -> Candidate:
        """The candidate at a point of the space of `base`."""
        return Candidate(wired(base, architecture), architecture, origin)
