"""The paper's strategy (4.2.3), and drawing at random, its rival."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from bcgraph import keys
from bcgraph.schema import NetworkSpec
from bcgraph.search.space import crossover, mutate
from bcgraph.search.space.pairs import Architecture, architecture_of
from bcgraph.search.strategies.population import TRIES, Population, Proposal, fresh


def breed(population: Population, iteration: int) -> list[Proposal]:
    """Up to `offspring` children by mutation, as many by crossover, and random ones up to `population`.

    Parents are drawn from P_top, evenly. No architecture is proposed that was evaluated before; a child that is not
    new after 10 tries is given up.
    """
    settings = population.settings
    parents = [population.spec.with_backward(r.architecture) for r in population.top()]
    seen = set(population.seen)
    found: list[Proposal] = []
    for origin, operator in _OPERATORS.items():
        for index in range(min(settings.offspring, settings.population - len(found))):
            rng = keys.rng(population.seed, "evolve", iteration, origin, index)
            for _ in range(TRIES):
                child = architecture_of(operator(population, parents[rng.randrange(len(parents))], rng))
                if child not in seen:
                    seen.add(child)
                    found.append((child, origin))
                    break
    return found + _fill(population, iteration, seen, settings.population - len(found))


def randomly(population: Population, iteration: int) -> list[Proposal]:
    """Random architectures only: the rival of the paper's third experiment."""
    return _fill(population, iteration, set(population.seen), population.settings.population)


def _fill(population: Population, iteration: int, seen: set[Architecture], count: int) -> list[Proposal]:
    """`count` new architectures, each uniform over those not in `seen`; fewer when the space runs out."""
    found: list[Proposal] = []
    choices = population.space
    for index in range(count):
        rng = keys.rng(population.seed, "evolve", iteration, "random", index)
        drawn = fresh(choices, rng, seen)
        if drawn is None:
            break
        seen.add(drawn)
        found.append((drawn, "random"))
    return found


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
