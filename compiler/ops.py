"""The operations of the temporal graph: arity, the shape each computes, and what a zero operand means.

A missing step reads zero (before step d of a delay d). A schedule that knows this at compile time asks the
operation's `zero` what is left of the node, so that no zero tensor is ever built for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bcgraph import shapes
from bcgraph.compiler.ir import Node
from bcgraph.shapes import Shape

Infer = Callable[[Node, Sequence[Shape]], tuple[Shape, ...]]

# What a node is worth when some of its operands are zero: "zero" (zero as well), "drop" (leave the operands
# out), "pass" (the value of the operand that is left), "keep" (the zero has to be built).
Zero = Literal["zero", "drop", "pass", "keep"]


@dataclass(frozen=True, slots=True)
class Op:
    """An operation: how many operands it takes, what shapes it computes, how it treats zero operands."""

    least: int
    most: int | None
    infer: Infer
    zero: Callable[[Node, frozenset[int]], Zero]
    evaluates: str


def _same(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return (given[0],)


def _layer(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return (shapes.infer(node.attrs["layer"], given[0]),)


def _add(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    if any(s != given[0] for s in given):
        raise ValueError(f"{node.name} adds shapes {' and '.join(map(shapes.text, given))}")
    return (given[0],)


def _concat(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((sum(s[0] for s in given), *given[0][1:]),)


def _resize(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((given[0][0], *node.attrs["size"]),)


def _to_image(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((given[0][0], 1, 1),)


def _to_vector(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((math.prod(given[0]),),)


def _pair(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return (given[0], given[0])


def _lif(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return (*_add(node, given), given[0])


def _conv_lif(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    # Operands are x, weight and bias, and then those of a `lif` but the current that these make.
    return _lif(node, (*_layer(node, given), *given[3:]))


def _flag(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((),)


def _is_zero(node: Node, zeros: frozenset[int]) -> Zero:
    return "zero"


def _must_build(node: Node, zeros: frozenset[int]) -> Zero:
    return "keep"


def _drop(node: Node, zeros: frozenset[int]) -> Zero:
    left = len(node.inputs) - len(zeros)
    return "zero" if left == 0 else "pass" if left == 1 else "drop"


def _charge_zero(node: Node, zeros: frozenset[int]) -> Zero:
    if zeros == {1}:
        return "pass"
    return "zero" if zeros == {0, 1} else "keep"


def _lif_zero(node: Node, zeros: frozenset[int]) -> Zero:
    # The last operand is the membrane, those before it add up to the current.
    currents = frozenset(range(len(node.inputs) - 1))
    if not currents <= zeros:
        return "drop"
    return "zero" if len(zeros) == len(node.inputs) else "keep"


def _conv_lif_zero(node: Node, zeros: frozenset[int]) -> Zero:
    # The convolution of zero is its bias; other currents and the membrane can be left out.
    return "keep" if 0 in zeros else "drop"


def _norm_zero(node: Node, zeros: frozenset[int]) -> Zero:
    # The second operand says whether the step counts at all; without it a norm of zero is its bias.
    return "zero" if 1 in zeros else "keep"


def _conv_zero(node: Node, zeros: frozenset[int]) -> Zero:
    return "keep" if node.attrs["layer"].bias or len(node.inputs) > 1 else "zero"


OPS: Mapping[str, Op] = {
    "conv": Op(1, 3, _layer, _conv_zero, "layer"),
    "linear": Op(1, 1, _layer, _conv_zero, "layer"),
    "bn": Op(1, 2, _same, _norm_zero, "layer"),
    "avgpool": Op(1, 1, _layer, _is_zero, "layer"),
    "maxpool": Op(1, 1, _layer, _is_zero, "layer"),
    "adaptive_avgpool": Op(1, 1, _layer, _is_zero, "layer"),
    "adaptive_maxpool": Op(1, 1, _layer, _is_zero, "layer"),
    "flatten": Op(1, 1, _layer, _is_zero, "layer"),
    "dropout": Op(1, 1, _layer, _is_zero, "layer"),
    "add": Op(1, None, _add, _drop, "sum of the operands"),
    "concat": Op(1, None, _concat, _must_build, "concatenation along channels"),
    "resize": Op(1, 1, _resize, _is_zero, "nearest neighbor to `size`"),
    "to_image": Op(1, 1, _to_image, _is_zero, "[F] as [F, 1, 1]"),
    "to_vector": Op(1, 1, _to_vector, _is_zero, "[F, 1, 1] as [F]"),
    "charge": Op(2, 2, _same, _charge_zero, "u = tau*v + I (eq. 1)"),
    "fire": Op(1, 1, _same, _is_zero, "s = 1 if u > threshold (eq. 2)"),
    "reset": Op(2, 2, _same, _is_zero, "v = u*(1 - s), or u - threshold*s (eq. 2)"),
    "lif": Op(1, None, _lif, _lif_zero, "charge, fire and reset in one"),
    "conv_lif": Op(4, None, _conv_lif, _conv_lif_zero, "a convolution and a `lif` on its result"),
    "pack": Op(1, 1, _same, _is_zero, "the spikes as bits"),
    "one": Op(0, 0, _flag, _must_build, "1 for each sample: its delayed value tells whether that step exists"),
    "zeros": Op(0, 0, _same, _must_build, "zero"),
    "fold_norm": Op(0, 0, _pair, _must_build, "weight and bias of a convolution with its norm in it"),
    # Only schedules make these.
    "frame": Op(1, 1, _same, _must_build, "one step of a sequence"),
    "stack": Op(1, None, _same, _must_build, "all steps of [N, ...] as [T, N, ...]"),
    "fold_frames": Op(1, 1, _same, _must_build, "a sequence [T, N, ...] as [T*N, ...]"),
    "fold": Op(1, None, _same, _must_build, "all steps of [N, ...] as [T*N, ...]"),
    "repeat": Op(1, 1, _same, _must_build, "[N, ...] for each step, as [T*N, ...]"),
    "shift": Op(1, 1, _same, _must_build, "[T*N, ...] late by `delay` steps, zero before"),
    "at": Op(1, 1, _same, _must_build, "one step of [T*N, ...]"),
    "unfold": Op(1, 1, _same, _must_build, "[T*N, ...] as [T, N, ...]"),
}


# Operations that are a whole neuron: they compute spikes and the membrane, which they read as their last operand.
NEURONS = frozenset({"lif", "conv_lif"})


def attributes(**values: Any) -> tuple[tuple[str, Any], ...]:
    """Attributes in the sorted order that a node keeps them in."""
    return tuple(sorted(values.items()))
