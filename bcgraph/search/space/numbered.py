"""Spaces whose architectures are numbered and never listed: drawing from them, and going through them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from random import Random
from typing import Protocol, TypeVar

Architecture = TypeVar("Architecture", covariant=True)


class Numbered(Protocol[Architecture]):
    """A space with so many architectures, each at its number from 0."""

    @property
    def size(self) -> int:
        """The number of architectures."""

    def architecture(self, index: int) -> Architecture:
        """The architecture with number `index`."""


def drawn(space: Numbered[Architecture], rng: Random, count: int) -> list[Architecture]:
    """`count` architectures, all different, each set of them equally likely."""
    if space.size <= sys.maxsize:
        return [space.architecture(i) for i in rng.sample(range(space.size), count)]
    # Larger ranges have no length that `sample` can ask for. Two equal draws hardly ever happen here.
    found: dict[int, None] = {}
    while len(found) < count:
        found[rng.randrange(space.size)] = None
    return [space.architecture(i) for i in found]


def every(space: Numbered[Architecture]) -> Iterator[Architecture]:
    """Every architecture in the order of its number."""
    index = 0
    while index < space.size:
        yield space.architecture(index)
        index += 1
