"""Step one: the first population, chosen by training-free scores (paper 4.2.2)."""

from __future__ import annotations

from collections.abc import Sequence

from bcgraph import keys
from bcgraph.errors import SearchError
from bcgraph.plugins.values import Strategy
from bcgraph.schema import NetworkSpec, SearchSpec
from bcgraph.search.records import objectives
from bcgraph.search.records.evaluations import Measure, Note, Record, ranking
from bcgraph.search.records.objectives import Objective, Requirements, excess
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.limits import Limits
from bcgraph.search.space.search_space import Architecture, of_search, size_text
from bcgraph.search.strategies.evolution import declared

TURNS = "turns"
"""The choice of the paper, which asks no predictor."""

MAX_POOL = 1_000_000
"""Architectures that step one may score: each takes more than a millisecond."""

MAX_DRAWS = 2_000
"""Draws in a row that may be no new architecture within the bounds before the pool is taken as it is."""


def select(
    records: Sequence[Record],
    scores: Sequence[Measure],
    keep: int,
    within: Requirements = (),
    choose: str = TURNS,
    uses: tuple[str, ...] = (),
) -> list[Record]:
    """The `keep` best: in turn the next best by each of `scores` that is not chosen yet (design 1.11).

    With another `choose` the best by that predictor, one of `uses` or registered. What breaks a bound on one of the
    scores gives way to all that breaks none.

    Dead candidates rank last. With fewer than `keep` records, all of them. Raises SearchError (E089) without scores.
    """
    if not scores:
        raise SearchError("E089", "a selection needs at least one score", hint="scores = [n, e]")
    bounds = tuple(each for each in within if each.measure in scores)
    if choose != TURNS:
        by = tuple(Objective(measure) for measure in scores)
        return objectives.ranked(choose, records, by, bounds, uses=uses)[:keep]
    ordered = sorted(records, key=lambda r: excess(r.evaluation, bounds) > 0)
    keeps = [r for r in ordered if not excess(r.evaluation, bounds)]
    queues = [iter([*ranking(keeps, m), *ranking(ordered[len(keeps) :], m)]) for m in scores]
    chosen: list[Record] = []
    seen: set[Architecture] = set()
    wanted = min(keep, len(records))
    turn = 0
    while len(chosen) < wanted:
        best = next(r for r in queues[turn % len(queues)] if r.architecture not in seen)
        seen.add(best.architecture)
        chosen.append(best)
        turn += 1
    return chosen


def pool(spec: NetworkSpec, seed: int, limits: Limits | None = None) -> list[Architecture]:
    """The architectures that step one scores, all different: the whole space in its order, or a uniform draw from it.

    Empty for `pool = 0`. With bounds only what keeps within them; candidates that do not are counted in `limits`.
    """
    found = of_search(spec)
    wanted = found.size if spec.search.init.pool == "all" else min(spec.search.init.pool, found.size)
    return _draw(spec, wanted, seed, "pool", limits or Limits())


def unscored(spec: NetworkSpec, seed: int, limits: Limits | None = None) -> list[Architecture]:
    """The first population where nothing is scored (`pool = 0`): `keep` random architectures, all different."""
    found = of_search(spec)
    return _draw(spec, min(spec.search.init.keep, found.size), seed, "unscored", limits or Limits())


def check(spec: NetworkSpec) -> tuple[Note, ...]:
    """Check the `search` settings. Returns notes on those that ask for more than the space holds.

    Raises SearchError: E089 with all settings that contradict each other, E067 for bounds that leave nothing.
    """
    settings: SearchSpec = spec.search
    strategy: Strategy = declared(spec).value
    wrong = [SearchError("E089", each.message, hint=each.hint) for each in strategy.contradictions(spec)]
    if wrong:
        raise SearchError.of(d for error in wrong for d in error.diagnostics)
    if strategy.run is not None:
        Limits.of(spec)
        return ()
    init, evolve = settings.init, settings.evolve
    found: list[SearchError] = []
    if init.pool != "all" and 0 < init.pool < init.keep:
        found.append(
            SearchError(
                "E089",
                f"init.keep = {init.keep} is more than init.pool = {init.pool}",
                hint="keep at most as many as are scored; `pool = 0` starts from random architectures",
            )
        )
    if init.pool != 0 and not init.scores:
        found.append(
            SearchError(
                "E089",
                "init.scores is empty, so nothing can be chosen from the pool",
                hint="scores = [n, e], or pool = 0",
            )
        )
    if init.batch < 2 and init.pool != 0:
        message = f"init.batch = {init.batch}, but scores compare samples and need at least two"
        found.append(SearchError("E089", message))
    if evolve.top > evolve.population:
        found.append(
            SearchError(
                "E089",
                f"evolve.top = {evolve.top} is more than evolve.population = {evolve.population}",
                hint="the best are chosen from what the population brings",
            )
        )
    choices = of_search(spec)
    size = choices.size
    scored = size if init.pool == "all" else min(init.pool, size)
    if scored > MAX_POOL:
        found.append(
            SearchError(
                "E089",
                f"init.pool = {init.pool} scores {size_text(scored)} architectures, at most {MAX_POOL:,} can be",
                hint="pool = 2000, as in the paper; or a smaller max_backward",
            )
        )
    found += [SearchError("E089", each.message, hint=each.hint) for each in strategy.obstacles(spec)]
    if found:
        raise SearchError.of(d for error in found for d in error.diagnostics)
    Limits.of(spec)
    notes = []
    if init.pool != "all" and init.pool > size:
        notes.append(Note(f"init.pool = {init.pool}, but the space has {size} architectures: all are scored"))
    if init.keep > size:
        notes.append(Note(f"init.keep = {init.keep}, but the space has {size} architectures: all are kept"))
    return tuple(notes)


def _draw(spec: NetworkSpec, count: int, seed: int, purpose: str, limits: Limits) -> list[Architecture]:
    found = of_search(spec)
    if count == found.size:
        return [a for a in found if limits.allows(Candidate.at(spec, a, "pool"))]
    rng = keys.rng(seed, "init", purpose)
    if limits.none:
        return [*found.sample(rng, count)]
    # One by one, since how many keep within the bounds is not known.
    drawn: dict[Architecture, None] = {}
    misses = 0
    while len(drawn) < count and misses < MAX_DRAWS:
        one = found.architecture(rng.randrange(found.size))
        if one in drawn or not limits.allows(Candidate.at(spec, one, "pool")):
            misses += 1
            continue
        drawn[one], misses = None, 0
    return list(drawn)
