"""A search space that a file describes (`space { }`): all sets of at most b members, beside those that are fixed.

A *member* is one possible connection: ports, delay, what it is made of. Members with the same ports and delay are the
alternatives of one *slot*, of which a network takes at most one. Sets are numbered and never listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import comb
from random import Random
from typing import TypeAlias

from bcgraph.search.space import numbered
from bcgraph.search.space.combinations import combination
from bcgraph.spaces import Member, Slot

Members: TypeAlias = tuple[Member, ...]
"""A set of members, sorted."""


@dataclass(frozen=True, slots=True)
class _Group:
    """All slots with the same number of alternatives, by the numbers of their first members."""

    alternatives: int
    slots: tuple[int, ...]


@dataclass(frozen=True)
class MemberSpace:
    """All sets of at most `most` of `members` with at most one of each slot; `fixed` are in every set, uncounted.

    `members` are sorted, and none of them has the slot of a fixed one. With `a_i` alternatives in slot i the number of
    sets of k members is the elementary symmetric polynomial e_k(a_1, a_2, ...), and the size is the sum of them over
    k = 0..most. Sets are numbered from 0: first the one without members, then those of one, and so on.
    """

    members: Members
    most: int
    fixed: Members = ()

    @property
    def count(self) -> int:
        """The number of connections that may be taken."""
        return len(self.members)

    @cached_property
    def slots(self) -> Mapping[Slot, range]:
        """The slots, each with the numbers of its members."""
        found: dict[Slot, range] = {}
        start = 0
        for number, member in enumerate(self.members, 1):
            if number == len(self.members) or self.members[number].slot != member.slot:
                found[member.slot] = range(start, number)
                start = number
        return found

    @cached_property
    def numbers(self) -> Mapping[Member, int]:
        """The number of each member."""
        return {member: number for number, member in enumerate(self.members)}

    @cached_property
    def fixed_slots(self) -> frozenset[Slot]:
        """The slots of the fixed ones."""
        return frozenset(member.slot for member in self.fixed)

    @cached_property
    def delays(self) -> Mapping[Member, tuple[int, ...]]:
        """For each member, under the delay 0, the delays that it may have with all else the same, ascending."""
        found: dict[Member, list[int]] = {}
        for member in self.members:
            found.setdefault(member._replace(delay=0), []).append(member.delay)
        return {member: tuple(sorted(delays)) for member, delays in found.items()}

    @cached_property
    def _groups(self) -> tuple[_Group, ...]:
        found: dict[int, list[int]] = {}
        for places in self.slots.values():
            found.setdefault(len(places), []).append(places.start)
        return tuple(_Group(alternatives, tuple(slots)) for alternatives, slots in sorted(found.items()))

    @cached_property
    def _ways(self) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
        """For each group, and for all groups from it on, the number of sets of k members, k = 0..most."""
        own = [_group_ways(group, self.most) for group in self._groups]
        rest: list[tuple[int, ...]] = [(1,)]
        for ways in reversed(own):
            rest.append(_product(ways, rest[-1], self.most))
        return tuple(own), tuple(reversed(rest))

    @cached_property
    def size(self) -> int:
        """The number of architectures."""
        return sum(self._ways[1][0])

    def key(self, number: int) -> Member:
        """The member of a number, 0 <= number < count."""
        return self.members[number]

    def architecture(self, index: int) -> Members:
        """The architecture with number `index`, 0 <= index < size, sorted. Raises IndexError outside of that."""
        if index < 0:
            raise IndexError(index)
        own, rest = self._ways
        for count, total in enumerate(rest[0]):
            if index < total:
                return tuple(sorted((*self.fixed, *self._taken(index, count, own, rest))))
            index -= total
        raise IndexError("beyond the last architecture of the space")

    def _taken(
        self, index: int, left: int, own: tuple[tuple[int, ...], ...], rest: tuple[tuple[int, ...], ...]
    ) -> Iterator[Member]:
        """The members of the `index`-th set of `left` members."""
        for group, ways, after in zip(self._groups, own, rest[1:], strict=True):
            for taken in range(min(left, len(ways) - 1) + 1):
                others = after[left - taken] if left - taken < len(after) else 0
                if index < ways[taken] * others:
                    break
                index -= ways[taken] * others
            which, index = divmod(index, others)
            chosen, which = divmod(which, group.alternatives**taken)
            for slot in combination(chosen, taken, len(group.slots)):
                which, alternative = divmod(which, group.alternatives)
                yield self.members[group.slots[slot] + alternative]
            left -= taken

    def sample(self, rng: Random, count: int) -> list[Members]:
        """`count` architectures, all different, each set of them equally likely."""
        return numbered.drawn(self, rng, count)

    def __iter__(self) -> Iterator[Members]:
        """Every architecture in the order of its number."""
        return numbered.every(self)

    def covers(self) -> tuple[Members, ...]:
        """Sets that each can stand together, the fixed ones among them, and that hold every member between them.

        They have more members than a network of the space. There is one for each alternative of the fullest slot.
        """
        rounds = max((len(places) for places in self.slots.values()), default=1)
        return tuple(
            tuple(sorted((*self.fixed, *(self.members[p[r]] for p in self.slots.values() if r < len(p)))))
            for r in range(rounds)
        )

    def holds(self, architecture: Iterable[Member]) -> bool:
        """Whether this is one of the architectures, in whatever order."""
        found = list(architecture)
        free = [member for member in found if member not in self.fixed]
        return (
            len(free) <= self.most
            and set(self.fixed) <= set(found)
            and all(member in self.numbers for member in free)
            and len({member.slot for member in found}) == len(found)
        )


def _group_ways(group: _Group, most: int) -> tuple[int, ...]:
    """For k = 0..most the sets of k members: k of the slots, and an alternative for each."""
    slots = len(group.slots)
    return tuple(comb(slots, k) * group.alternatives**k for k in range(min(most, slots) + 1))


def _product(first: tuple[int, ...], second: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The product of two polynomials up to the power `most`."""
    found = [0] * min(len(first) + len(second) - 1, most + 1)
    for a, x in enumerate(first):
        for b, y in enumerate(second[: len(found) - a]):
            found[a + b] += x * y
    return tuple(found)
