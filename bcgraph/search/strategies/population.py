"""What an evolution has evaluated, and how to draw an architecture that it has not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from bcgraph.schema import EvolveSpec, NetworkSpec
from bcgraph.search.records.evaluations import Measure, Record, ranking
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.pairs import Architecture, Space

TRIES = 10
"""How many draws a new child may take (design 1.12)."""


@dataclass
class Population:
    """All candidates evaluated so far, in order, with their records."""

    spec: NetworkSpec
    seed: int
    measure: Measure
    space: Space
    records: list[Record] = field(default_factory=list)
    evaluated: dict[Architecture, Candidate] = field(default_factory=dict)

    @property
    def settings(self) -> EvolveSpec:
        """The settings of the evolution."""
        return self.spec.search.evolve

    def add(self, candidate: Candidate, record: Record) -> None:
        """Add an evaluated candidate with its record."""
        self.records.append(record)
        self.evaluated[candidate.architecture] = candidate

    def top(self) -> list[Candidate]:
        """P_top: the best k ever evaluated, best first."""
        return [self.evaluated[r.architecture] for r in ranking(self.records, self.measure)[: self.settings.top]]


Strategy: TypeAlias = Callable[[Population, int], list[Candidate]]
"""Proposes the candidates of an iteration, none of them evaluated before; none when the space is exhausted."""


def draw_new(choices: Space, rng: Random, seen: set[Architecture]) -> Architecture | None:
    """An architecture that is not in `seen`, uniform over those; None when there is none."""
    for _ in range(100):
        drawn = choices.architecture(rng.randrange(choices.size))
        if drawn not in seen:
            return drawn
    # 100 misses mean that most of the space was seen, so it is small enough to list.
    left = [a for a in choices if a not in seen]
    return left[rng.randrange(len(left))] if left else None
