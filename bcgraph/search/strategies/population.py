"""What an evolution has evaluated, and how to draw an architecture that it has not."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from bcgraph import keys
from bcgraph.schema import EvolveSpec, NetworkSpec
from bcgraph.search.records.evaluations import Record
from bcgraph.search.records.objectives import Objectives, Requirements, ranking
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.limits import Limits
from bcgraph.search.space.search_space import Architecture, SearchSpace

TRIES = 10
"""How many draws a new child may take (design 1.12)."""


@dataclass
class Population:
    """All candidates evaluated so far, in order, with their records."""

    spec: NetworkSpec
    seed: int
    objectives: Objectives
    space: SearchSpace
    records: list[Record] = field(default_factory=list)
    evaluated: dict[Architecture, Candidate] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    within: Requirements = ()

    @property
    def settings(self) -> EvolveSpec:
        """The settings of the evolution."""
        return self.spec.search.evolve

    def add(self, candidate: Candidate, record: Record) -> None:
        """Add an evaluated candidate with its record."""
        self.records.append(record)
        self.evaluated[candidate.architecture] = candidate

    def allows(self, candidate: Candidate) -> bool:
        """Whether a candidate keeps within the bounds of the search; counts those that do not."""
        return self.limits.allows(candidate)

    def top(self) -> list[Candidate]:
        """P_top: the best k ever evaluated, best first (see `objectives.ranking`)."""
        return [
            self.evaluated[r.architecture]
            for r in ranking(self.records, self.objectives, self.within)[: self.settings.top]
        ]


MAX_DRAWS = 2_000
"""Draws for one random candidate where there are bounds."""

MAX_LISTED = 50_000
"""Architectures that are all compared with the bounds where draws find none within them."""


def draw_new(population: Population, rng: Random, seen: set[Architecture]) -> Candidate | None:
    """A candidate that is not in `seen` and within the bounds, uniform over those; None when there is none.

    With bounds it is None, too, where `MAX_DRAWS` draws from a space too large to list find none.
    """
    choices = population.space
    for _ in range(100 if population.limits.none else MAX_DRAWS):
        drawn = choices.architecture(rng.randrange(choices.size))
        if drawn not in seen and population.allows(found := Candidate.at(population.spec, drawn, "random")):
            return found
    if choices.size > MAX_LISTED and not population.limits.none:
        return None
    # So many misses mean that most of the space was seen or breaks a bound: it is small enough to list.
    every = (Candidate.at(population.spec, a, "random") for a in choices if a not in seen)
    left = [candidate for candidate in every if population.limits.keeps(candidate)]
    return left[rng.randrange(len(left))] if left else None


def fill(population: Population, iteration: int, seen: set[Architecture], count: int) -> list[Candidate]:
    """`count` new candidates, each uniform over the architectures not in `seen`; fewer when the space runs out."""
    found: list[Candidate] = []
    for index in range(count):
        rng = keys.rng(population.seed, "evolve", iteration, "random", index)
        drawn = draw_new(population, rng, seen)
        if drawn is None:
            break
        seen.add(drawn.architecture)
        found.append(drawn)
    return found
