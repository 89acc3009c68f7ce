"""The networks that the last stage of a search trains: the best found, the one without connections, and rivals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

from bcgraph import keys
from bcgraph.plugins.values import Strategy
from bcgraph.schema import NetworkSpec
from bcgraph.search.records import objectives
from bcgraph.search.records.evaluations import Record
from bcgraph.search.records.trained import NONE, Entrant, Job
from bcgraph.search.space.search_space import Architecture, Key, of_search, wired
from bcgraph.search.strategies.evolution import declared

RANDOM = 3
"""Random rivals, as many as the paper draws (figure 2B)."""

_DRAWS = 1_000
"""Draws after which a space is taken to hold no other network."""


def entrants(spec: NetworkSpec, seed: int, records: Sequence[Record]) -> tuple[Entrant, ...]:
    """The networks to train, all different, for the `records` of the search of `spec`, whose step two is finished.

    Those of the best come first, then `none`, then the rivals that `finish.beside` names.
    """
    settings = spec.search.finish
    assert settings is not None, "the search has no last stage"
    strategy: Strategy = declared(spec).value
    build = partial(strategy.network or wired, spec)
    # Earlier stages of one training run are no candidates.
    ranked = list(records[-1:]) if strategy.run is not None else _within(spec, records)
    different = dict.fromkeys(record.architecture for record in ranked if record.architecture)
    best = list(different)[: settings.top]
    made = [Entrant(f"found-{place}", build(each), each) for place, each in enumerate(best, 1)]
    made.append(Entrant(NONE, spec.with_connections(), ()))
    taken = {each.architecture for each in made}
    if "front" in settings.beside:
        front = _front(spec, max(1, len(best[0])) if best else 1)
        if front and front not in taken:
            made.append(Entrant("front", build(front), front))
            taken.add(front)
    if "random" in settings.beside:
        for place, each in enumerate(_random(spec, seed, taken), 1):
            made.append(Entrant(f"random-{place}", build(each), each))
    return tuple(made)


def _within(spec: NetworkSpec, records: Sequence[Record]) -> list[Record]:
    """The candidates that keep the bounds, from best to worst."""
    within = objectives.required(spec.search)
    return [r for r in objectives.best_first(spec, records) if not objectives.excess(r.evaluation, within)]


def jobs(spec: NetworkSpec, seed: int, networks: Sequence[Entrant]) -> tuple[Job, ...]:
    """Every training run, seed by seed: all networks have the first seed before one has the second."""
    assert spec.search.finish is not None
    seeds = [keys.derive(seed, "finish", number) for number in range(spec.search.finish.seeds)]
    return tuple(Job(each, number, key) for number, key in enumerate(seeds) for each in networks)


def _front(spec: NetworkSpec, count: int) -> Architecture:
    """Up to `count` connections of the space from the last ports into the first; none where nothing runs backward."""
    space = of_search(spec)
    every: list[Key] = [space.key(number) for number in range(space.count)]
    backward = [key for key in every if key[0] >= key[1]]
    ordered = sorted(backward, key=lambda key: (key[1], -key[0]))
    slots = dict.fromkeys(key[:2] for key in ordered)
    chosen = [next(key for key in ordered if key[:2] == slot) for slot in list(slots)[: min(count, space.most)]]
    return _sorted(chosen, space.fixed) if chosen else ()


def _random(spec: NetworkSpec, seed: int, taken: set[Architecture]) -> Iterator[Architecture]:
    """Random networks with connections, drawn uniformly from the space, that are none of those `taken`."""
    space = of_search(spec)
    known = set(taken)
    for place in range(RANDOM):
        for draw in range(_DRAWS):
            (found,) = space.sample(keys.rng(seed, "finish", "random", place, draw), 1)
            if len(found) > len(space.fixed) and found not in known:
                known.add(found)
                yield found
                break
        else:
            return


def _sorted(chosen: Sequence[Key], fixed: Sequence[Key]) -> Architecture:
    return cast("Architecture", tuple(sorted([*chosen, *fixed], key=tuple)))
