"""Optuna's samplers, asked for one population at a time.

Each iteration builds its sampler again, seeds it by key and shows it all evaluations so far. So a resumed run gets the
proposals of an uninterrupted one. Every setting whose default differs between versions of Optuna is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from bcgraph import keys
from bcgraph.process import ignored
from bcgraph.search.records.evaluations import Record
from bcgraph.search.records.objectives import excess, values
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.encoding import Encoding
from bcgraph.search.strategies.population import TRIES, Population, draw_new

_GENERATION = "generation"
"""The attribute of a trial that holds its generation."""


class _Generations:
    """What a genetic sampler asks of generations, from the attributes of our own trials.

    `now` is the generation of the trials that are proposed.
    """

    def __init__(self, now: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.now = now

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """The generation of a trial that is proposed."""
        return self.now

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """The evaluated trials of a generation."""
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in done if trial.user_attrs[_GENERATION] == generation]


class NSGA2(_Generations, NSGAIISampler):
    """NSGA-II by our own generations."""


class NSGA3(_Generations, NSGAIIISampler):
    """NSGA-III by our own generations."""


def size(population: Population) -> int:
    """The size of a generation."""
    return max(2, population.settings.population)


def ask(population: Population, iteration: int, name: str, make: Callable[[int, int], BaseSampler]) -> list[Candidate]:
    """Up to a population of new candidates; a proposal that is not new after 10 draws is replaced by a random one.

    `make` gives the sampler for a seed and the generation that is proposed.
    """
    encoding = Encoding(population.space)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    past, now = _generations(population)
    seen = set(population.evaluated)
    found: list[Candidate] = []
    with _experimental():
        sampler = make(keys.derive(population.seed, "evolve", iteration, name) % 2**32, now)
        by = population.objectives
        # Of what is to be small the sampler sees the negative: what failed is minus infinity either way, and so is all
        # of what breaks a bound.
        study = optuna.create_study(directions=["maximize"] * len(by), sampler=sampler)
        for record, generation in zip(population.records, past, strict=True):
            study.add_trial(
                create_trial(
                    values=_seen(record, population),
                    params=encoding.encode(record.architecture),
                    distributions=dict(encoding.parameters),
                    user_attrs={_GENERATION: generation},
                )
            )
        for index in range(population.settings.population):
            chosen: Candidate | None = None
            for _ in range(TRIES):
                trial = study.ask(dict(encoding.parameters))
                proposed = encoding.decode(trial.params)
                if proposed not in seen and population.allows(new := Candidate.at(population.spec, proposed, name)):
                    chosen = new
                    break
                study.tell(trial, state=TrialState.FAIL)
            else:
                chosen = draw_new(population, keys.rng(population.seed, "evolve", iteration, "random", index), seen)
            if chosen is None:
                break
            seen.add(chosen.architecture)
            found.append(chosen)
    return found


def _seen(record: Record, population: Population) -> Sequence[float]:
    if excess(record.evaluation, population.within):
        return [-math.inf] * len(population.objectives)
    return values(record.evaluation, population.objectives)


def _generations(population: Population) -> tuple[list[int], int]:
    """The generation of each record, and that of the next trials: one is complete with the size of a population."""
    found: list[int] = []
    generation, members, iteration = 0, 0, 0
    for record in population.records:
        if record.iteration > iteration:
            iteration = record.iteration
            if members >= population.settings.population:
                generation, members = generation + 1, 0
        members += 1
        found.append(generation)
    return found, generation + (members >= size(population))


def _experimental() -> AbstractContextManager[None]:
    """Version 4 of Optuna warns of settings that version 5 has as they are."""
    return ignored(ExperimentalWarning)
