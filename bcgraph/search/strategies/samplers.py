"""Baseline strategies: Optuna's own samplers, asked for one population at a time.

Each iteration builds its sampler again, seeds it by key and shows it all evaluations so far. So a resumed run gets the
proposals of an uninterrupted one.
"""

from __future__ import annotations

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState, create_trial

from bcgraph import keys
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.encoding import decode, distributions, encode
from bcgraph.search.strategies.population import TRIES, Population, draw_new


def tpe(population: Population, iteration: int) -> list[Candidate]:
    """A population proposed by the tree-structured Parzen estimator."""
    # constant_liar: a proposal that is not evaluated yet counts as bad, which spreads the proposals of a population.
    return _ask(population, iteration, "tpe", TPESampler(seed=_seed(population, iteration, "tpe"), constant_liar=True))


def nsga2(population: Population, iteration: int) -> list[Candidate]:
    """A population proposed by NSGA-II; an iteration is a generation."""
    size = max(2, population.settings.population)
    sampler = NSGAIISampler(population_size=size, seed=_seed(population, iteration, "nsga2"))
    return _ask(population, iteration, "nsga2", sampler)


def _seed(population: Population, iteration: int, name: str) -> int:
    return keys.derive(population.seed, "evolve", iteration, name) % 2**32


def _ask(population: Population, iteration: int, name: str, sampler: BaseSampler) -> list[Candidate]:
    """Up to a population of new candidates; a proposal that is not new after 10 draws is replaced by a random one."""
    parameters = distributions(population.space)
    study = _study(population, sampler)
    seen = set(population.evaluated)
    found: list[Candidate] = []
    for index in range(population.settings.population):
        origin = name
        for _ in range(TRIES):
            trial = study.ask(parameters)
            proposed = decode(trial.params)
            if proposed not in seen:
                break
            study.tell(trial, state=TrialState.FAIL)
        else:
            drawn = draw_new(population.space, keys.rng(population.seed, "evolve", iteration, "random", index), seen)
            if drawn is None:
                break
            proposed, origin = drawn, "random"
        seen.add(proposed)
        found.append(Candidate.at(population.spec, proposed, origin))
    return found


def _study(population: Population, sampler: BaseSampler) -> optuna.Study:
    """All evaluations so far as a study in memory, which the sampler learns from."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parameters = distributions(population.space)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    # For NSGA-II a generation is complete once it has the size of the population.
    generation, members, iteration = 0, 0, 0
    for record in population.records:
        if record.iteration > iteration:
            iteration = record.iteration
            if members >= population.settings.population:
                generation, members = generation + 1, 0
        members += 1
        study.add_trial(
            create_trial(
                value=record.evaluation.value(population.measure),
                params=encode(record.architecture, parameters),
                distributions=parameters,
                system_attrs={NSGAIISampler._get_generation_key(): generation},
            )
        )
    return study
