"""NSGA-III of Optuna, a baseline; an iteration is a generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph.plugins.values import Strategy
from bcgraph.search.strategies.parameters import too_many

if TYPE_CHECKING:
    from bcgraph.search.space.candidate import Candidate
    from bcgraph.search.strategies.population import Population


def nsga3(population: Population, iteration: int) -> list[Candidate]:
    """A population proposed by NSGA-III; an iteration is a generation."""
    # Imported here, since Optuna costs more than the whole evolution.
    from bcgraph.search.strategies import samplers

    size = samplers.size(population)
    return samplers.ask(
        population, iteration, "nsga3", lambda seed, now: samplers.NSGA3(now, population_size=size, seed=seed)
    )


STRATEGY = Strategy("Optuna's NSGA-III", candidates=nsga3, obstacles=too_many)
