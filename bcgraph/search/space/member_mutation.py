"""Mutation in a space of members: one coordinate of a connection moves to a close value (design 8)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from typing import TypeAlias

from bcgraph.search.space.members import Members, MemberSpace
from bcgraph.spaces import Member, Slot

REACH = 2
"""How far a port may move."""

Moves: TypeAlias = list[tuple[Member, int]]
"""Members that a move may lead to, each with its weight."""


def mutate(space: MemberSpace, parent: Members, rng: Random, probability: float) -> Members:
    """The architecture with each connection that is not fixed moved with `probability`; `parent` where none moves.

    The connections are visited in their order. Of one that mutates exactly one coordinate moves: its source, its
    target, its delay, its projection, its join or what it reads. The coordinate is drawn with even odds among those
    that have a valid move, and then the move among the valid ones of that coordinate: a port moves by one or two
    positions, with a probability inversely proportional to the distance; the delay to the next smaller or the next
    larger one that this connection may have, with even odds; each of the others to any other value, with even odds. A
    move is valid when it leads to a member of the space that runs the same way (backward or forward), and whose slot no
    other connection of the network has at that time.
    """
    found = list(parent)
    taken = {member.slot for member in parent}
    fixed = set(space.fixed)
    for place, member in enumerate(found):
        if member in fixed or rng.random() >= probability:
            continue
        taken.remove(member.slot)
        ways = list(moves(space, member, taken).values())
        if ways:
            found[place] = _draw(ways[rng.randrange(len(ways))], rng)
        taken.add(found[place].slot)
    return tuple(sorted(found))


def moves(space: MemberSpace, member: Member, taken: Collection[Slot]) -> dict[str, Moves]:
    """The valid moves of a connection by coordinate, for the coordinates that have one.

    `taken` are the slots of the other connections of its network.
    """
    return {name: found for name, of in _COORDINATES.items() if (found := of(space, member, taken))}


def _draw(valid: Moves, rng: Random) -> Member:
    """One of the moves, by the odds of their weights."""
    left = rng.randrange(sum(weight for _, weight in valid))
    for member, weight in valid:
        left -= weight
        if left < 0:
            return member
    raise AssertionError("the weights add up to more than was drawn")


def _port(end: str) -> Callable[[MemberSpace, Member, Collection[Slot]], Moves]:
    """The moves of a port: `source` or `target`."""

    def of(space: MemberSpace, member: Member, taken: Collection[Slot]) -> Moves:
        found: Moves = []
        for step in range(-REACH, REACH + 1):
            moved = member._replace(**{end: getattr(member, end) + step})
            if step and moved.forward == member.forward and moved in space.numbers and moved.slot not in taken:
                # Weights as whole numbers: REACH! / distance, so that the odds are exact.
                found.append((moved, REACH // abs(step)))
        return found

    return of


def _delay(space: MemberSpace, member: Member, taken: Collection[Slot]) -> Moves:
    delays = space.delays.get(member._replace(delay=0), ())
    below = max((d for d in delays if d < member.delay), default=None)
    above = min((d for d in delays if d > member.delay), default=None)
    moved = [member._replace(delay=d) for d in (below, above) if d is not None]
    return [(m, 1) for m in moved if m.slot not in taken]


def _alternative(name: str) -> Callable[[MemberSpace, Member, Collection[Slot]], Moves]:
    """The moves of a coordinate with which the slot stays: any other value."""

    def of(space: MemberSpace, member: Member, taken: Collection[Slot]) -> Moves:
        others = (space.members[number] for number in space.slots.get(member.slot, ()))
        value = getattr(member, name)
        return [(o, 1) for o in others if getattr(o, name) != value and o._replace(**{name: value}) == member]

    return of


_COORDINATES: dict[str, Callable[[MemberSpace, Member, Collection[Slot]], Moves]] = {
    "source": _port("source"),
    "target": _port("target"),
    "delay": _delay,
    "through": _alternative("through"),
    "join": _alternative("join"),
    "read": _alternative("read"),
}
