"""Random search, which the paper compares its strategy with (4.2.3)."""

from __future__ import annotations

from bcgraph.plugins.values import Strategy
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.strategies.population import Population, fill


def random_search(population: Population, iteration: int) -> list[Candidate]:
    """Random architectures only, as in the paper's third experiment."""
    return fill(population, iteration, set(population.evaluated), population.settings.population)


STRATEGY = Strategy("random architectures alone", candidates=random_search)
