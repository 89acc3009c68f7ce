"""The paper's search space: all sets of at most b pairs of ports (paper 4.2.1).

A pair (source, target) with source >= target has a *rank*, and so has an architecture (a set of pairs). Ranks are
computed and never listed, so a space of any size takes no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from random import Random
from typing import TypeAlias

from bcgraph.search.space import numbered
from bcgraph.search.space.combinations import combination

Pair: TypeAlias = tuple[int, int]
"""Port numbers (source, target) of a backward connection, source >= target."""

Pairs: TypeAlias = tuple[Pair, ...]
"""A set of pairs, sorted by rank."""


@dataclass(frozen=True, slots=True)
class Space:
    """All sets of at most `max_backward` pairs among `ports` ports.

    `allowed` restricts the pairs to the given ranks (ascending); None means every pair. Architectures are numbered
    from 0: first the empty one, then those of one pair, then those of two, and so on.
    """

    ports: int
    max_backward: int
    allowed: tuple[int, ...] | None = None

    @property
    def pairs(self) -> int:
        """The number n of pairs: m(m+1)/2 of m ports, or as many as are allowed."""
        return self.ports * (self.ports + 1) // 2 if self.allowed is None else len(self.allowed)

    @property
    def size(self) -> int:
        """The number of architectures: the sum of C(n, k) over k = 0..b."""
        return _size(self.pairs, self.max_backward)

    @property
    def most(self) -> int:
        """How many connections an architecture may have."""
        return self.max_backward

    @property
    def count(self) -> int:
        """The number of connections that may be taken: that of pairs."""
        return self.pairs

    @property
    def fixed(self) -> Pairs:
        """The connections that are always there: none."""
        return ()

    def key(self, number: int) -> Pair:
        """What an architecture says of the connection with this number: its pair."""
        return self.pair(number)

    def holds(self, architecture: Iterable[Pair]) -> bool:
        """Whether this is one of the architectures, in whatever order."""
        found = list(architecture)
        if len(found) > self.max_backward or len(set(found)) < len(found):
            return False
        if any(not 0 <= target <= source < self.ports for source, target in found):
            return False
        return self.allowed is None or {rank_pair(pair) for pair in found} <= set(self.allowed)

    def pair(self, index: int) -> Pair:
        """The pair with number `index` among those of this space, 0 <= index < n."""
        return unrank_pair(index if self.allowed is None else self.allowed[index])

    def architecture(self, index: int) -> Pairs:
        """The architecture with number `index`, 0 <= index < size. Raises IndexError outside of that."""
        if index < 0:
            raise IndexError(index)
        n = self.pairs
        for count, total in _counts(n, self.max_backward):
            if index < total:
                return tuple(self.pair(i) for i in combination(index, count, n))
            index -= total
        raise IndexError("beyond the last architecture of the space")

    def sample(self, rng: Random, count: int) -> list[Pairs]:
        """`count` architectures, all different, each set of them equally likely."""
        return numbered.drawn(self, rng, count)

    def __iter__(self) -> Iterator[Pairs]:
        """Every architecture in the order of its number."""
        return numbered.every(self)


def rank_pair(pair: Pair) -> int:
    """The rank of a pair: pairs are ordered by source, then by target."""
    source, target = pair
    return source * (source + 1) // 2 + target


def unrank_pair(rank: int) -> Pair:
    """The pair of a rank: the inverse of `rank_pair`."""
    source = (isqrt(8 * rank + 1) - 1) // 2
    return source, rank - source * (source + 1) // 2


@lru_cache(maxsize=64)
def _size(n: int, most: int) -> int:
    """The number of sets of at most `most` of n things."""
    return 1 << n if most >= n else sum(total for _, total in _counts(n, most))


def _counts(n: int, most: int) -> Iterator[tuple[int, int]]:
    """For each size from 0 to `most`, the number of sets of that size among n things."""
    total = 1
    for count in range(min(most, n) + 1):
        yield count, total
        # Each from the one before it: a binomial of large numbers on its own takes milliseconds.
        total = total * (n - count) // (count + 1)
