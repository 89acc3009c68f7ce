"""Random search, which the paper compares its strategy with (4.2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph.plugins.values import Strategy

if TYPE_CHECKING:
    from bcgraph.search.space.candidate import Candidate
    from bcgraph.search.strategies.population import Population


def random_search(population: Population, iteration: int) -> list[Candidate]:
    """Random architectures only, as in the paper's third experiment."""
    from bcgraph.search.strategies.population import fill

    return fill(population, iteration, set(population.evaluated), population.settings.population)


STRATEGY = Strategy("random architectures alone", candidates=random_search)
