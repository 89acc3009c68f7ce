"""Joins and changes of shape: sum, concatenation, resize, vectors as images and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from bcgraph.compiler.ir import Node
from bcgraph.compiler.ops.base import Op, Trait, Zero, is_zero, must_build, sum_shape
from bcgraph.shapes import Shape

_PURE = Trait.PURE | Trait.STEADY
_MOVES = _PURE | Trait.KEEPS_SPIKES


def _concat(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((sum(s[0] for s in given), *given[0][1:]),)


def _product(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return (tuple(max(sizes) for sizes in zip_longest(*given, fillvalue=1)),)


def _resize(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((given[0][0], *node.attrs["size"]),)


def _to_image(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((*given[0], 1, 1)[:3],)


def _to_vector(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((math.prod(given[0]),),)


def _to_signal(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return (given[0][:2],)


def _drop(node: Node, zeros: frozenset[int]) -> Zero:
    left = len(node.inputs) - len(zeros)
    return "zero" if left == 0 else "pass" if left == 1 else "drop"


def _gate(node: Node, zeros: frozenset[int]) -> Zero:
    # One plus zero changes nothing.
    return "zero" if 0 in zeros else _drop(node, zeros)


SHAPE: Mapping[str, Op] = {
    "add": Op(1, None, sum_shape, _drop, "sum of the operands", _PURE),
    "mul": Op(1, None, _product, is_zero, "product of the operands, smaller ones repeated", _MOVES),
    "gate": Op(1, None, sum_shape, _gate, "the first operand times one plus each of the others", _PURE),
    "concat": Op(1, None, _concat, must_build, "concatenation along channels", _MOVES),
    "resize": Op(1, 1, _resize, is_zero, "nearest neighbor to `size`", _MOVES),
    "to_image": Op(1, 1, _to_image, is_zero, "[F] as [F, 1, 1], [C, L] as [C, L, 1]", _MOVES),
    "to_signal": Op(1, 1, _to_signal, is_zero, "[C, L, 1] as [C, L]", _PURE),
    "to_vector": Op(1, 1, _to_vector, is_zero, "[F, 1, 1] as [F]", _PURE),
}
