"""Lanes: several networks side by side along the batch axis, `[R*N, ...]` with the samples of each together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bcgraph.compiler.ir import Node
from bcgraph.compiler.ops.base import Op, Trait, must_build
from bcgraph.shapes import Shape


def _lanes(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    if any(s != given[0] for s in given):
        raise ValueError(f"{node.name} puts lanes of different shapes side by side")
    return (given[0],)


LANES: Mapping[str, Op] = {
    # It may be a view of its operand, so it has no memory of its own.
    "lanes": Op(1, None, _lanes, must_build, "the lanes `picks`, each (operand, its lane), side by side", Trait.PURE),
}
