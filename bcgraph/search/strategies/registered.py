"""Registered strategies: what a user's function proposes, as the candidates of an iteration."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from bcgraph import keys, plugins
from bcgraph.errors import SpecError
from bcgraph.plugins.values import Strategy
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.strategies.evolutionary import fill
from bcgraph.search.strategies.population import Population

MOST = 100
"""Proposals that are looked at for each candidate of a population."""


def propose(entry: plugins.Entry, population: Population, iteration: int) -> list[Candidate]:
    """The candidates that a registered strategy proposes, up to `population`, none of them evaluated before.

    Random ones fill up what it leaves. Raises PluginError (E095) when it fails or leaves the search space.
    """
    strategy: Strategy = entry.value
    wanted = population.settings.population
    rng = keys.rng(population.seed, "evolve", iteration, entry.name)
    seen = set(population.evaluated)
    found: list[Candidate] = []
    with plugins.calling(entry):
        for proposal in islice(strategy.propose(population, rng), MOST * wanted):
            candidate = _candidate(entry, proposal, population)
            if candidate.architecture not in seen:
                seen.add(candidate.architecture)
                found.append(candidate)
            if len(found) == wanted:
                break
    return found + fill(population, iteration, seen, wanted - len(found))


def _candidate(entry: plugins.Entry, proposal: Any, population: Population) -> Candidate:
    """A proposal, a specification or pairs of ports, as a candidate."""
    try:
        pairs: Iterable[Any] = (
            ((bc.source, bc.target) for bc in proposal.backward) if isinstance(proposal, NetworkSpec) else proposal
        )
        candidate = Candidate.of(population.spec.with_backward(sorted(map(tuple, pairs))), entry.name)
    except (SpecError, TypeError) as error:
        why = error.diagnostics[0].message if isinstance(error, SpecError) else plugins.reason(error)
        raise _outside(entry, proposal, why) from error
    space = population.space
    if len(candidate.architecture) > space.max_backward:
        raise _outside(entry, proposal, f"max_backward = {space.max_backward}")
    if space.allowed is not None:
        allowed = {space.pair(index) for index in range(space.pairs)}
        if not allowed.issuperset(candidate.architecture):
            raise _outside(entry, proposal, "same_resolution = true")
    return candidate


def _outside(entry: plugins.Entry, proposal: Any, why: str) -> plugins.PluginError:
    shown = f"a network with {len(proposal.backward)} connections" if isinstance(proposal, NetworkSpec) else proposal
    return plugins.PluginError(
        "E095",
        f"{entry.title} proposes {shown!r:.100}, which is no architecture of this search: {why}",
        notes=(f"it is registered by {entry.origin}",),
        hint="a proposal is a list of pairs (source, target) of port numbers, or a specification",
    )
