"""The search space: all sets of at most b pairs of ports (paper 4.2.1).

A pair (source, target) with source >= target has a *rank*, and so has an architecture (a set of pairs). Ranks are
computed and never listed, so a space of any size takes no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import comb, isqrt
from typing import TypeAlias

from bcgraph import shapes
from bcgraph.errors import SearchError
from bcgraph.schema import Backbone, InputSpec, NetworkSpec

Pair: TypeAlias = tuple[int, int]
"""Port numbers (source, target) of a backward connection, source >= target."""

Architecture: TypeAlias = tuple[Pair, ...]
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
        n = self.pairs
        return sum(comb(n, k) for k in range(min(self.max_backward, n) + 1))

    def pair(self, index: int) -> Pair:
        """The pair with number `index` among those of this space, 0 <= index < n."""
        return unrank_pair(index if self.allowed is None else self.allowed[index])

    def architecture(self, index: int) -> Architecture:
        """The architecture with number `index`, 0 <= index < size. Raises IndexError outside of that."""
        if index < 0:
            raise IndexError(index)
        n = self.pairs
        for count in range(min(self.max_backward, n) + 1):
            total = comb(n, count)
            if index < total:
                return tuple(self.pair(i) for i in _combination(index, count, n))
            index -= total
        raise IndexError("beyond the last architecture of the space")

    def __iter__(self) -> Iterator[Architecture]:
        """Every architecture in the order of its number."""
        return (self.architecture(i) for i in range(self.size))


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


def _combination(index: int, count: int, n: int) -> list[int]:
    """The `index`-th set of `count` numbers below `n`, ascending (the combinatorial number system)."""
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


@lru_cache(maxsize=64)
def _same_resolution(backbone: Backbone, fed: InputSpec) -> tuple[int, ...]:
    sizes = [shapes.spatial(shape) for shape in shapes.ports(backbone, fed)]
    return tuple(rank_pair((j, i)) for j in range(len(sizes)) for i in range(j + 1) if sizes[j] == sizes[i])
