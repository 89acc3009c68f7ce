"""The search space: all sets of at most b pairs of ports (paper 4.2.1).

A pair (source, target) with source >= target has a *rank*, and so has an architecture (a set of pairs). Ranks are
computed and never listed, so a space of any size takes no memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import comb, floor, isqrt, log10
from random import Random
from typing import TypeAlias

from bcgraph import shapes
from bcgraph.errors import SearchError
from bcgraph.schema import Backbone, InputSpec, NetworkSpec

Pair: TypeAlias = tuple[int, int]
"""Port numbers (source, target) of a backward connection, source >= target."""

Architecture: TypeAlias = tuple[Pair, ...]
"""A set of pairs, sorted by rank."""


# Connections above which an architecture is found by one walk instead of by a search for each of them.
_MANY = 32


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

    def pair(self, index: int) -> Pair:
        """The pair with number `index` among those of this space, 0 <= index < n."""
        return unrank_pair(index if self.allowed is None else self.allowed[index])

    def architecture(self, index: int) -> Architecture:
        """The architecture with number `index`, 0 <= index < size. Raises IndexError outside of that."""
        if index < 0:
            raise IndexError(index)
        n = self.pairs
        for count, total in _counts(n, self.max_backward):
            if index < total:
                return tuple(self.pair(i) for i in _combination(index, count, n))
            index -= total
        raise IndexError("beyond the last architecture of the space")

    def sample(self, rng: Random, count: int) -> list[Architecture]:
        """`count` architectures, all different, each set of them equally likely."""
        if self.size <= sys.maxsize:
            return [self.architecture(i) for i in rng.sample(range(self.size), count)]
        # Larger ranges have no length that `sample` can ask for. Two equal draws hardly ever happen here.
        drawn: dict[int, None] = {}
        while len(drawn) < count:
            drawn[rng.randrange(self.size)] = None
        return [self.architecture(i) for i in drawn]

    def __iter__(self) -> Iterator[Architecture]:
        """Every architecture in the order of its number."""
        index = 0
        while index < self.size:
            yield self.architecture(index)
            index += 1


def space(spec: NetworkSpec, max_backward: int = 2, *, same_resolution: bool = False) -> Space:
    """The search space of a network: sets of at most `max_backward` pairs of its ports.

    With `same_resolution` only pairs of ports with the same height and width count. Raises SearchError (E089) when
    `max_backward` is negative.
    """
    if max_backward < 0:
        raise SearchError("E089", f"max_backward is {max_backward}, but a count cannot be negative")
    allowed = _same_resolution(spec.backbone, spec.input) if same_resolution else None
    return Space(len(spec.ports), max_backward, allowed)


def space_size(spec: NetworkSpec, max_backward: int = 2, *, same_resolution: bool = False) -> int:
    """The number of architectures with at most `max_backward` backward connections (paper 4.2.1).

    Raises SearchError (E089) when `max_backward` is negative.
    """
    return space(spec, max_backward, same_resolution=same_resolution).size


def size_text(size: int) -> str:
    """The size of a space for people: exact, or rounded where it has more digits than anyone reads."""
    if size < 10**18:
        return str(size)
    exponent = floor(log10(size))
    return f"about {10 ** (log10(size) - exponent):.2f}e{exponent}"


def rank_pair(pair: Pair) -> int:
    """The rank of a pair: pairs are ordered by source, then by target."""
    source, target = pair
    return source * (source + 1) // 2 + target


def unrank_pair(rank: int) -> Pair:
    """The pair of a rank: the inverse of `rank_pair`."""
    source = (isqrt(8 * rank + 1) - 1) // 2
    return source, rank - source * (source + 1) // 2


def architecture_of(spec: NetworkSpec) -> Architecture:
    """The pairs that a network has, as a set in its one order."""
    return tuple(sorted((bc.source, bc.target) for bc in spec.backward))


def port_shapes(spec: NetworkSpec) -> tuple[shapes.Shape, ...]:
    """The shape of the spikes of each port, `(C, H, W)` or `(F,)`."""
    return shapes.ports(spec.backbone, spec.input)


def port_resolutions(spec: NetworkSpec) -> tuple[tuple[int, int], ...]:
    """Height and width at each port; a port with no spatial axes counts as 1x1."""
    return tuple(shapes.spatial(shape) for shape in port_shapes(spec))


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


def _combination(index: int, count: int, n: int) -> list[int]:
    """The `index`-th set of `count` numbers below `n`, ascending (the combinatorial number system)."""
    if count > _MANY:
        return _large_combination(index, count, n)
    chosen = []
    high = n - 1
    for left in range(count, 0, -1):
        if left == 1:
            high = index
        elif left == 2:
            high = (isqrt(8 * index + 1) + 1) // 2
        else:
            low = left - 1
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if comb(middle, left) <= index else (low, middle - 1)
        index -= comb(high, left)
        chosen.append(high)
        high -= 1
    return chosen[::-1]


def _large_combination(index: int, count: int, n: int) -> list[int]:
    """`_combination` by one walk down from n, each binomial from the one before it."""
    chosen = []
    high, left = n - 1, count
    ways = comb(high, left)
    while left:
        if ways <= index:
            index -= ways
            chosen.append(high)
            # C(high - 1, left - 1) of C(high, left)
            ways = ways * left // high if high else 0
            high, left = high - 1, left - 1
        else:
            ways = ways * (high - left) // high
            high -= 1
    return chosen[::-1]


@lru_cache(maxsize=64)
def _same_resolution(backbone: Backbone, fed: InputSpec) -> tuple[int, ...]:
    sizes = [shapes.spatial(shape) for shape in shapes.ports(backbone, fed)]
    return tuple(rank_pair((j, i)) for j in range(len(sizes)) for i in range(j + 1) if sizes[j] == sizes[i])
