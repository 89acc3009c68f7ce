"""What an evolution has seen, and new architectures that it has not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from bcgraph.schema import EvolveSpec, NetworkSpec
from bcgraph.search.records.evaluations import Measure, Record, ranking
from bcgraph.search.space.pairs import Architecture, Space

TRIES = 10
"""How often a child is tried before it is given up (design 1.12)."""

Proposal: TypeAlias = tuple[Architecture, str]
"""An architecture and its origin."""


@dataclass
class Population:
    """All that was evaluated so far, in order."""

    spec: NetworkSpec
    seed: int
    measure: Measure
    space: Space
    records: list[Record] = field(default_factory=list)
    seen: set[Architecture] = field(default_factory=set)

    @property
    def settings(self) -> EvolveSpec:
        """The settings of the evolution."""
        return self.spec.search.evolve

    def add(self, record: Record) -> None:
        """Take up a record."""
        self.records.append(record)
        self.seen.add(record.architecture)

    def top(self) -> list[Record]:
        """P_top: the best k ever seen, best first."""
        return ranking(self.records, self.measure)[: self.settings.top]


Strategy: TypeAlias = Callable[[Population, int], list[Proposal]]
"""Proposes the architectures of an iteration, none of them seen before; none when the space is exhausted."""


def fresh(choices: Space, rng: Random, seen: set[Architecture]) -> Architecture | None:
    """An architecture that is not in `seen`, uniform over those; None when there is none."""
    for _ in range(100):
        drawn = choices.architecture(rng.randrange(choices.size))
        if drawn not in seen:
            return drawn
    # So many misses mean that most of the space was seen, so it is small enough to list.
    left = [a for a in choices if a not in seen]
    return left[rng.randrange(len(left))] if left else None
