"""Step two: evolution (paper 4.2.3), as a pure driver.

The proposals of an iteration follow from the key (seed, stage, iteration, index) and from the evaluations of the
iterations before it, and from nothing else. So a run that is resumed with its records ends like an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TypeAlias

from bcgraph import plugins
from bcgraph.errors import RunError, SearchError
from bcgraph.plugins.values import Strategy
from bcgraph.schema import NetworkSpec
from bcgraph.search.records import objectives
from bcgraph.search.records.evaluations import Evaluation, Note, Record
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.limits import Limits
from bcgraph.search.space.search_space import Architecture, of_search
from bcgraph.search.strategies import registered
from bcgraph.search.strategies.population import Population

Evaluate: TypeAlias = Callable[[Sequence[NetworkSpec]], Iterable[Evaluation]]
"""Evaluates specs in order. It may be lazy, so that each result is recorded as soon as it arrives."""

Propose: TypeAlias = Callable[[Population, int], list[Candidate]]
"""Proposes the candidates of an iteration, none of them evaluated before; none when the space is exhausted."""


def evolve(
    spec: NetworkSpec,
    evaluate: Evaluate,
    *,
    seed: int,
    initial: Sequence[Architecture],
    history: Sequence[Record] = (),
    limits: Limits | None = None,
) -> Iterator[Record | Note]:
    """Evaluate `initial` (iteration 0), then `iterations` populations of the strategy in `spec.search.evolve`.

    Yields each new record as soon as it arrives. Candidates recorded in `history` (in the order in which an earlier
    call yielded them) are not evaluated again. When the space is exhausted, yields a note and ends. Raises RunError
    (E085) when `history` does not belong to these arguments, SearchError (E089) for a strategy without populations
    and (E067) for bounds that leave nothing, and PluginError (E095) when a registered strategy fails. Candidates that
    break a bound are counted in `limits`.
    """
    settings = spec.search
    propose = _strategy(spec)
    choices = of_search(spec)
    by, within = objectives.of_search(settings), objectives.required(settings)
    population = Population(spec, seed, by, choices, limits=limits or Limits.of(spec), within=within)
    past = list(history)
    for iteration in range(settings.evolve.iterations + 1):
        if iteration == 0:
            proposals = [Candidate.at(spec, architecture, "selected") for architecture in initial]
        else:
            proposals = propose(population, iteration)
        if not proposals:
            _expect_end(past)
            if population.limits.none:
                yield Note(f"all {choices.size} architectures are evaluated after iteration {iteration - 1}")
            else:
                yield Note(f"no other architecture within the bounds is found after iteration {iteration - 1}")
            return
        known, past = past[: len(proposals)], past[len(proposals) :]
        for index, (record, candidate) in enumerate(zip(known, proposals, strict=False)):
            if (record.iteration, record.index, record.architecture) != (iteration, index, candidate.architecture):
                raise RunError(
                    "E085",
                    f"evaluation {index} of iteration {iteration} in the log is not the one this search makes",
                    hint="the log was changed, or was written by another version; start in a new directory",
                )
            population.add(candidate, record)
        rest = proposals[len(known) :]
        started = time.monotonic()
        # Candidates that were evaluated at once are evaluated so again: in float32 last digits may depend on the group.
        again = len(known) % getattr(evaluate, "at_once", 1)
        group = [candidate.spec for candidate in proposals[len(known) - again :]]
        results = islice(evaluate(group), again, None) if rest else ()
        for index, (candidate, found) in enumerate(zip(rest, results, strict=True), len(known)):
            seconds = time.monotonic() - started
            record = Record.of(candidate, "evolve", iteration, index, found, seconds)
            population.add(candidate, record)
            yield record
            started = time.monotonic()
    _expect_end(past)


def _strategy(spec: NetworkSpec) -> Propose:
    """What the strategy that `spec` names proposes for an iteration."""
    found = declared(spec)
    strategy: Strategy = found.value
    if strategy.run is not None or strategy.loop is not None:
        what = "one training run" if strategy.loop is None else "a loop of its own"
        raise SearchError(
            "E089",
            f"`strategy = {found.name}` is no evolution but {what}",
            hint="bcgraph.search.run takes any strategy",
        )
    return partial(registered.propose, found) if strategy.candidates is None else strategy.candidates


def declared(spec: NetworkSpec) -> plugins.Entry:
    """The declaration of the strategy that `spec` names. Raises SearchError (E089) for an unknown one."""
    name = spec.search.evolve.strategy
    found = plugins.find("strategy", name, spec.uses)
    if found is None:
        raise SearchError("E089", f"the strategy `{name}` is not registered in this process")
    return found


def _expect_end(past: Sequence[Record]) -> None:
    """Raise RunError (E085) when there are evaluations that the search does not make."""
    if past:
        raise RunError(
            "E085",
            f"evaluation {past[0].index} of iteration {past[0].iteration} in the log is not one of this search",
            hint="the log was changed; take it from a copy, or start in a new directory",
        )
