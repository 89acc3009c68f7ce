"""From layers that read each other to a sequence with branches, as a block is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bcgraph.importing.layers import JOINS, Layer, RefusedError, Scope


@dataclass(frozen=True, slots=True)
class Item:
    """A layer in a sequence; a join has its branches."""

    layer: Layer
    branches: tuple[tuple[Item, ...], ...] = ()

    @property
    def scope(self) -> Scope:
        """The module that holds the layer and all of its branches."""
        found = self.layer.scope
        for branch in self.branches:
            for item in branch:
                found = _common(found, item.scope)
        return found


def _common(one: Scope, other: Scope) -> Scope:
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return one[:count]


def sequence(layers: Sequence[Layer], end: int) -> tuple[Item, ...]:
    """The layers between the input and layer `end`, in order. Raises RefusedError where branches cannot say them."""
    maker = _Maker(_nested(list(layers)))
    return maker.between(end, 0)


def _nested(layers: list[Layer]) -> list[Layer]:
    """A concatenation that begins with all parts of an earlier one reads that one instead."""
    earlier: dict[tuple[int, ...], int] = {}
    for number, layer in enumerate(layers):
        if layer.call != "concat":
            continue
        inputs = layer.inputs
        for count in range(len(inputs) - 1, 1, -1):
            if inputs[:count] in earlier:
                layers[number] = replace(layer, inputs=(earlier[inputs[:count]], *inputs[count:]))
                break
        earlier[inputs] = number
    return layers


@dataclass(slots=True)
class _Maker:
    layers: list[Layer]
    used: set[int] = field(default_factory=set)
    dominators: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        depth = {0: 0}
        self.dominators[0] = 0
        for number, layer in enumerate(self.layers[1:], start=1):
            found: int | None = None
            for read in layer.inputs:
                found = read if found is None else self._meet(found, read, depth)
            self.dominators[number] = found or 0
            depth[number] = depth[self.dominators[number]] + 1

    def _meet(self, one: int, other: int, depth: dict[int, int]) -> int:
        while one != other:
            if depth[one] >= depth[other]:
                one = self.dominators[one]
            else:
                other = self.dominators[other]
        return one

    def between(self, end: int, start: int) -> tuple[Item, ...]:
        found: list[Item] = []
        while end != start:
            if end == 0:
                raise RefusedError("the branches of a join begin at different places, which cannot be written")
            layer = self.layers[end]
            if end in self.used and not layer.repeatable:
                name = ".".join((*layer.scope, layer.name or layer.call))
                raise RefusedError(
                    f"`{name}` is read at places that no branches can express",
                    "a value goes to the branches of one join, or to one layer",
                    layer.place,
                )
            self.used.add(end)
            if layer.call in JOINS:
                fork = self.dominators[end]
                branches = tuple(self.between(read, fork) for read in layer.inputs)
                found.append(Item(layer, branches))
                end = fork
            else:
                found.append(Item(layer))
                end = layer.inputs[0]
        return tuple(reversed(found))
