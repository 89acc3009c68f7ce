"""Searches replayed on the table: the selection and the evolution of a search, with every evaluation looked up.

A seed of the search takes the predictors of one seed of `values.py`, so what differs between two seeds is all that
would differ between two searches: weights, batch, split, order of training, and the draws of the search itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bcgraph.schema import EvolveSpec, InitSpec, NetworkSpec, SearchSpec
from bcgraph.search.records.evaluations import Evaluation, Measure, Record, fitness, ranking
from bcgraph.search.space.search_space import Architecture, architecture_of
from bcgraph.search.strategies import selection
from bcgraph.search.strategies.evolution import evolve
from benchmarks.placement import records, values
from benchmarks.placement.__main__ import known


@dataclass(frozen=True)
class Lookup:
    """What is known of every architecture for one seed; `shot` is the predictor that stands for one-shot accuracy."""

    n: dict[Architecture, float]
    e: dict[Architecture, float]
    shot: dict[Architecture, float]

    @staticmethod
    def of(found: values.Values, seed: int, shot: str) -> Lookup:
        """The predictors of a seed."""
        space = list(values.architectures())
        n, e, accuracy = (dict(zip(space, found[name, seed], strict=True)) for name in ("n", "e", shot))
        return Lookup(n, e, accuracy)

    def scores(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """Both scores of each."""
        for spec in specs:
            found = architecture_of(spec)
            yield Evaluation(n=self.n[found], e=self.e[found])

    def fitness(self, measure: Measure, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """What the evolution compares."""
        table = {"n": self.n, "e": self.e, "accuracy": self.shot}[measure]
        for spec in specs:
            value = table[architecture_of(spec)]
            yield Evaluation(**{measure: value})


def truth() -> dict[Architecture, float]:
    """The mean test accuracy of every architecture."""
    found = records.by_architecture(known(values.base(), records.TABLE))
    return {a: statistics.mean(found[records.written(a)]) for a in values.architectures()}


def search(init: InitSpec, evolution: EvolveSpec, lookup: Lookup, seed: int) -> list[Record]:
    """Both steps; returns the evaluations of the second in order."""
    spec = values.base().model_copy(update={"search": SearchSpec(init=init, evolve=evolution)})
    selection.check(spec)
    chosen = selection.unscored(spec, seed)
    if init.pool:
        pool = selection.pool(spec, seed)
        scored = lookup.scores([spec.with_backward(a) for a in pool])
        kept = [Record("init", 0, i, a, e, "pool") for i, (a, e) in enumerate(zip(pool, scored, strict=True))]
        chosen = [r.architecture for r in selection.select(kept, init.scores, init.keep)]
    measure = fitness(evolution.score)
    found = evolve(spec, lambda specs: lookup.fitness(measure, specs), seed=seed, initial=chosen)
    return [entry for entry in found if isinstance(entry, Record)]


def best(evaluated: Sequence[Record], measure: Measure) -> Architecture:
    """The architecture that a search returns."""
    return ranking(list(evaluated), measure)[0].architecture
