"""Registered strategies: what a user's function proposes, as the candidates of an iteration."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

from bcgraph import keys, plugins
from bcgraph.errors import SpecError
from bcgraph.plugins.values import Strategy
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.members import Members, MemberSpace
from bcgraph.search.space.pairs import Pairs
from bcgraph.search.space.search_space import architecture_of
from bcgraph.search.strategies.population import Population, fill
from bcgraph.spaces import Member

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
        assert strategy.propose is not None
        own = population.settings.own
        proposals = strategy.propose(population, rng, **({} if own is None else dict(own)))
        for proposal in islice(proposals, MOST * wanted):
            candidate = _candidate(entry, proposal, population)
            if candidate.architecture not in seen and population.allows(candidate):
                seen.add(candidate.architecture)
                found.append(candidate)
            if len(found) == wanted:
                break
    return found + fill(population, iteration, seen, wanted - len(found))


def _candidate(entry: plugins.Entry, proposal: Any, population: Population) -> Candidate:
    """A proposal, a specification or connections, as a candidate."""
    try:
        candidate = _proposed(entry, proposal, population)
    except (SpecError, TypeError, ValueError, LookupError) as error:
        why = error.diagnostics[0].message if isinstance(error, SpecError) else plugins.reason(error)
        raise _outside(entry, proposal, why) from error
    space = population.space
    if isinstance(space, MemberSpace):
        if not space.holds(cast(Members, candidate.architecture)):
            raise _outside(entry, proposal, "it is not in the `space` of the file")
        return candidate
    if len(candidate.architecture) > space.max_backward:
        raise _outside(entry, proposal, f"max_backward = {space.max_backward}")
    if space.allowed is not None:
        allowed = {space.pair(index) for index in range(space.pairs)}
        if not allowed.issuperset(cast(Pairs, candidate.architecture)):
            raise _outside(entry, proposal, "same_resolution = true")
    return candidate


def _proposed(entry: plugins.Entry, proposal: Any, population: Population) -> Candidate:
    """The network that a proposal names; the fixed connections of a space need not be among them."""
    space, base = population.space, population.spec
    if isinstance(space, MemberSpace):
        named = architecture_of(proposal) if isinstance(proposal, NetworkSpec) else [Member(*each) for each in proposal]
        return Candidate.at(base, tuple(sorted({*space.fixed, *named})), entry.name)
    pairs: Iterable[Any] = (
        ((bc.source, bc.target) for bc in proposal.backward) if isinstance(proposal, NetworkSpec) else proposal
    )
    return Candidate.of(base.with_backward(sorted(map(tuple, pairs))), entry.name)


def _outside(entry: plugins.Entry, proposal: Any, why: str) -> plugins.PluginError:
    shown = f"a network with {len(proposal.backward)} connections" if isinstance(proposal, NetworkSpec) else proposal
    return plugins.PluginError(
        "E095",
        f"{entry.title} proposes {shown!r:.100}, which is no architecture of this search: {why}",
        notes=(f"it is registered by {entry.origin}",),
        hint="a proposal is a specification or a list of (source, target), in a `space` with delay, through and so on",
    )
