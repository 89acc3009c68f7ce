"""Crossover in a space of members: two connections swap their input ports (paper 4.2.3, figure 5)."""

from __future__ import annotations

from random import Random

from bcgraph.search.space.members import Members, MemberSpace
from bcgraph.spaces import Member


def crossover(space: MemberSpace, parent: Members, rng: Random) -> Members:
    """The architecture with two connections crossed, or, where fewer than two are not fixed, with one more.

    With no such connection or one, a random one is added, uniform over the members whose slots are free. With two or
    more, two of them swap their targets; all else stays with its source. The swap is drawn evenly among the valid ones:
    both results are members of the space that run as before, no slot is taken twice, and the network changes. Where no
    valid swap exists, or one connection more would exceed the bound, it is `parent`.
    """
    free = [member for member in parent if member not in set(space.fixed)]
    if len(free) < 2:
        return _extended(space, parent, free, rng)
    swaps = _swaps(space, parent, free)
    return swaps[rng.randrange(len(swaps))] if swaps else parent


def _extended(space: MemberSpace, parent: Members, free: list[Member], rng: Random) -> Members:
    if len(free) >= space.most:
        return parent
    taken = sorted((space.slots[m.slot] for m in free if m.slot in space.slots), key=lambda places: places.start)
    left = space.count - sum(map(len, taken))
    if left < 1:
        return parent
    number = rng.randrange(left)
    for places in taken:
        number += len(places) * (number >= places.start)
    return tuple(sorted((*parent, space.members[number])))


def _swaps(space: MemberSpace, parent: Members, free: list[Member]) -> list[Members]:
    """What every valid swap leads to."""
    found: list[Members] = []
    for place, first in enumerate(free):
        for second in free[place + 1 :]:
            new = first._replace(target=second.target), second._replace(target=first.target)
            if not all(m in space.numbers for m in new) or (new[0].forward, new[1].forward) != (
                first.forward,
                second.forward,
            ):
                continue
            child = tuple(sorted((*(m for m in parent if m not in (first, second)), *new)))
            if child != parent and len({m.slot for m in child}) == len(child):
                found.append(child)
    return found
