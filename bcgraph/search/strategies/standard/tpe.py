"""The tree-structured Parzen estimator of Optuna, a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph.plugins.values import Strategy
from bcgraph.search.strategies.parameters import too_many

if TYPE_CHECKING:
    from bcgraph.search.space.candidate import Candidate
    from bcgraph.search.strategies.population import Population


def tpe(population: Population, iteration: int) -> list[Candidate]:
    """A population proposed by the tree-structured Parzen estimator, which sees all parameters together."""
    # Imported here, since Optuna costs more than the whole evolution.
    from optuna.samplers import TPESampler

    from bcgraph.search.strategies import samplers

    def sampler(seed: int, _: int) -> TPESampler:
        # constant_liar: a proposal that is not evaluated yet counts as bad, which spreads those of a population.
        return TPESampler(seed=seed, multivariate=True, constant_liar=True)

    return samplers.ask(population, iteration, "tpe", sampler)


STRATEGY = Strategy("Optuna's tree-structured Parzen estimator", candidates=tpe, obstacles=too_many)
