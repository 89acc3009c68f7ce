"""Values without operands, the flag of a step, zeros, folded weights; and what such a flag decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bcgraph.compiler.ir import Node
from bcgraph.compiler.ops.base import Op, Trait, is_zero, must_build, same_shape
from bcgraph.shapes import Shape


def _flag(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((),)


def _pair(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return (given[0], given[0])


CONSTANT: Mapping[str, Op] = {
    "one": Op(
        0,
        0,
        _flag,
        must_build,
        "1 for each sample: its delayed value is 1 where that step exists",
        Trait.PURE | Trait.ALLOCATES,
    ),
    "count": Op(
        1,
        1,
        _flag,
        must_build,
        "one more than the operand, at most T: how many steps each sample has had",
        Trait.PURE | Trait.ALLOCATES,
    ),
    "present": Op(2, 2, same_shape, is_zero, "the value where its step exists, else zero", Trait.STEADY),
    "zeros": Op(0, 0, same_shape, must_build, "zero", Trait.ALLOCATES),
    "fold_norm": Op(
        0,
        0,
        _pair,
        must_build,
        "weight and bias of a convolution with its norm in it",
        Trait.STEADY | Trait.ALLOCATES | Trait.WEIGHTS,
    ),
}
