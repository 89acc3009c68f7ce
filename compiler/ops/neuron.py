"""The neuron (paper eq. 1 and 2): its three equations, and the nodes that fuse them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bcgraph.compiler.ir import Node
from bcgraph.compiler.ops.base import Op, Trait, Zero, is_zero, layer_operations, layer_shape, same_shape, sum_shape
from bcgraph.shapes import Shape

_WHOLE = Trait.FIRES | Trait.NEURON | Trait.ALLOCATES


def _lif(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return (*sum_shape(node, given), given[0])


def _conv_lif(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    # Operands are x, weight and bias, and then those of a `lif` but the current that these make.
    return _lif(node, (*layer_shape(node, given), *given[3:]))


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


NEURON: Mapping[str, Op] = {
    "charge": Op(2, 2, same_shape, _charge_zero, "u = tau*v + I (eq. 1)"),
    "fire": Op(1, 1, same_shape, is_zero, "s = 1 if u > threshold (eq. 2)", Trait.FIRES),
    "reset": Op(2, 2, same_shape, is_zero, "v = u*(1 - s), or u - threshold*s (eq. 2)"),
    "lif": Op(1, None, _lif, _lif_zero, "charge, fire and reset in one", _WHOLE),
    "conv_lif": Op(
        4, None, _conv_lif, _conv_lif_zero, "a convolution and a `lif` on its result", _WHOLE, layer_operations
    ),
    "pack": Op(1, 1, same_shape, is_zero, "the spikes as bits"),
}
