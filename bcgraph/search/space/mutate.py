"""Mutation: one port of a backward connection moves to a close one (paper 4.2.3, figure 4)."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import TypeAlias

from bcgraph.schema import BackwardConnection, NetworkSpec
from bcgraph.search.space import member_mutation
from bcgraph.search.space.member_mutation import REACH
from bcgraph.search.space.pairs import Pair
from bcgraph.search.space.search_space import described, members_of, port_resolutions, wired

_STEPS = tuple(d for d in range(-REACH, REACH + 1) if d)

_Move: TypeAlias = tuple[Pair, int]


def mutate(spec: NetworkSpec, rng: Random, probability: float = 0.2, *, same_resolution: bool = False) -> NetworkSpec:
    """The network with each backward connection moved with `probability`.

    The connections are visited in their order. For each that mutates, one of its two ports is drawn with even odds
    and moves by one or two positions, with a probability inversely proportional to the distance, among the moves
    that keep the source at or after the target, stay on the network and repeat no connection that the network then
    has. When the drawn port has no such move, the other port moves, so that a connection that mutates stays as it
    is only when neither port can move. A delay travels with its connection. Where nothing moves, `spec` itself is
    returned. Where `spec` has a space of its own (`space { }`), connections move in that one (`member_mutation`).
    """
    if spec.search.space is not None:
        return _in_described(spec, rng, probability)
    connections = list(spec.backward)
    taken = {(bc.source, bc.target) for bc in connections}
    sizes = port_resolutions(spec) if same_resolution else None
    changed = False
    for place, bc in enumerate(connections):
        if rng.random() >= probability:
            continue
        pair = (bc.source, bc.target)
        first = rng.randrange(2)
        moves = _moves(pair, first, len(spec.ports), taken, sizes) or _moves(
            pair, 1 - first, len(spec.ports), taken, sizes
        )
        if not moves:
            continue
        moved = _draw(moves, rng)
        taken.remove(pair)
        taken.add(moved)
        connections[place] = BackwardConnection(moved[0], moved[1], bc.delay)
        changed = True
    return spec.with_backward(connections) if changed else spec


def _in_described(spec: NetworkSpec, rng: Random, probability: float) -> NetworkSpec:
    found, parent = described(spec), members_of(spec)
    child = member_mutation.mutate(found, parent, rng, probability)
    return spec if child == parent else wired(spec, child)


def _moves(
    pair: Pair,
    end: int,
    ports: int,
    taken: Collection[Pair],
    sizes: tuple[tuple[int, int], ...] | None,
) -> list[_Move]:
    """The valid moves of one end (0: source, 1: target) of a pair, each with its distance."""
    found = []
    for step in _STEPS:
        source, target = (pair[0] + step, pair[1]) if end == 0 else (pair[0], pair[1] + step)
        if not 0 <= target <= source < ports or (source, target) in taken:
            continue
        if sizes is not None and sizes[source] != sizes[target]:
            continue
        found.append(((source, target), abs(step)))
    return found


def _draw(moves: list[_Move], rng: Random) -> Pair:
    """One of the moves, with a probability inversely proportional to its distance."""
    # Weights as whole numbers: REACH! / distance, so that the odds are exact.
    weights = [REACH // distance for _, distance in moves]
    left = rng.randrange(sum(weights))
    for (pair, _), weight in zip(moves, weights, strict=True):
        left -= weight
        if left < 0:
            return pair
    raise AssertionError("the weights add up to more than was drawn")
