"""Step two: evolution (paper 4.2.3), as a pure driver.

What is proposed in an iteration follows from the key (seed, stage, iteration, index) and from the evaluations of the
iterations before it, and from nothing else. So a run that is resumed with its records goes on as if it had never
stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from bcgraph.errors import RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import FITNESS, Evaluation, Note, Record
from bcgraph.search.space.pairs import Architecture, space
from bcgraph.search.strategies.evolutionary import breed, randomly
from bcgraph.search.strategies.population import Population, Proposal, Strategy

Evaluate: TypeAlias = Callable[[Sequence[NetworkSpec]], Iterable[Evaluation]]
"""Evaluates specs in order; may be lazy, so that each result is kept as soon as it is there."""


def evolve(
    spec: NetworkSpec,
    evaluate: Evaluate,
    *,
    seed: int,
    initial: Sequence[Architecture],
    history: Sequence[Record] = (),
) -> Iterator[Record | Note]:
    """Evaluate `initial` (iteration 0), then `iterations` populations of the strategy in `spec.search.evolve`.

    Yields each new record as soon as it is there; those of `history` (in the order in which an earlier call yielded
    them) are taken up without being evaluated again. A note is yielded when the space is exhausted, which ends the
    search. Raises RunError (E085) when `history` does not belong to these arguments.
    """
    settings = spec.search
    choices = space(spec, settings.max_backward, same_resolution=settings.same_resolution)
    population = Population(spec, seed, FITNESS[settings.evolve.score], choices)
    past = list(history)
    propose = STRATEGIES[settings.evolve.strategy]
    for iteration in range(settings.evolve.iterations + 1):
        proposals = [(a, "selected") for a in initial] if iteration == 0 else propose(population, iteration)
        if not proposals:
            yield Note(f"all {choices.size} architectures are evaluated after iteration {iteration - 1}")
            return
        known, past = past[: len(proposals)], past[len(proposals) :]
        for place, (record, (architecture, _)) in enumerate(zip(known, proposals, strict=False)):
            if (record.iteration, record.index, record.architecture) != (iteration, place, architecture):
                raise RunError(
                    "E085",
                    f"evaluation {place} of iteration {iteration} in the log is not the one this search makes",
                    hint="the log was changed, or was written by another version; start in a new directory",
                )
            population.add(record)
        rest = proposals[len(known) :]
        started = time.monotonic()
        results = evaluate([spec.with_backward(a) for a, _ in rest]) if rest else ()
        for place, ((architecture, origin), found) in enumerate(zip(rest, results, strict=True), len(known)):
            seconds = time.monotonic() - started
            record = Record("evolve", iteration, place, architecture, found, origin, seconds)
            population.add(record)
            yield record
            started = time.monotonic()


def _tpe(population: Population, iteration: int) -> list[Proposal]:
    # Imported here, since Optuna costs more than the whole evolution.
    from bcgraph.search.strategies import samplers

    return samplers.tpe(population, iteration)


def _nsga2(population: Population, iteration: int) -> list[Proposal]:
    from bcgraph.search.strategies import samplers

    return samplers.nsga2(population, iteration)


STRATEGIES: dict[str, Strategy] = {
    "evolutionary": breed,
    "random": randomly,
    "tpe": _tpe,
    "nsga2": _nsga2,
}
