"""The paper's strategy (4.2.3): mutation and crossover of the best, and random architectures."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from bcgraph import keys
from bcgraph.plugins.values import Strategy
from bcgraph.search.space import crossover, mutate

if TYPE_CHECKING:
    from bcgraph.schema import NetworkSpec
    from bcgraph.search.space.candidate import Candidate
    from bcgraph.search.strategies.population import Population


def evolutionary(population: Population, iteration: int) -> list[Candidate]:
    """Up to `offspring` children by mutation, as many by crossover, and random ones up to `population`.

    Parents are drawn from P_top, evenly. No architecture is proposed that was evaluated before: a child that is not
    new after 10 draws is left out.
    """
    # Imported here: to check a file that names the strategy needs no population.
    from bcgraph.search.space.candidate import Candidate
    from bcgraph.search.strategies.population import TRIES, fill

    settings = population.settings
    parents = population.top()
    seen = set(population.evaluated)
    found: list[Candidate] = []
    for origin, operator in _OPERATORS.items():
        for index in range(min(settings.offspring, settings.population - len(found))):
            rng = keys.rng(population.seed, "evolve", iteration, origin, index)
            for _ in range(TRIES):
                parent = parents[rng.randrange(len(parents))]
                child = Candidate.of(operator(population, parent.spec, rng), origin)
                if child.architecture not in seen and population.allows(child):
                    seen.add(child.architecture)
                    found.append(child)
                    break
    return found + fill(population, iteration, seen, settings.population - len(found))


def _mutation(population: Population, parent: NetworkSpec, rng: Random) -> NetworkSpec:
    same = population.spec.search.same_resolution
    return mutate(parent, rng, population.settings.mutation, same_resolution=same)


def _crossover(population: Population, parent: NetworkSpec, rng: Random) -> NetworkSpec:
    if rng.random() >= population.settings.crossover:
        return parent
    settings = population.spec.search
    return crossover(parent, rng, settings.max_backward, same_resolution=settings.same_resolution)


_OPERATORS: dict[str, Callable[[Population, NetworkSpec, Random], NetworkSpec]] = {
    "mutation": _mutation,
    "crossover": _crossover,
}

STRATEGY = Strategy(
    "the paper's (4.2.3): mutation and crossover of the best, and random architectures", candidates=evolutionary
)
