"""Layers: convolution, linear, batch norm, pooling, flatten, dropout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bcgraph import shapes
from bcgraph.compiler.ir import Node
from bcgraph.compiler.ops.base import Op, Trait, Zero, is_zero, layer_operations, layer_shape, must_build, same_shape
from bcgraph.layers import STANDARD
from bcgraph.shapes import Shape

_WEIGHTED = Trait.STEADY | Trait.ALLOCATES | Trait.PARAMETERS
_PURE = Trait.PURE | Trait.STEADY
_MAXIMUM = _PURE | Trait.KEEPS_SPIKES


def by_step(node: Node) -> bool:
    """Whether equal operands may give another result at another step, for what a norm has of its own for each."""
    return node.op == "bn" and bool(node.attrs["layer"].norm.by_step)


def told_apart(node: Node) -> str:
    """What a norm has of its own for each step, `has statistics for each step`; for messages."""
    own = "statistics" if node.attrs["layer"].norm.statistics == "per_step" else "a scale"
    return f"has {own} for each step"


def _conv_zero(node: Node, zeros: frozenset[int]) -> Zero:
    return "keep" if node.attrs["layer"].bias or len(node.inputs) > 1 else "zero"


def _vector(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    ((channels, _, _),) = layer_shape(node, [(*given[0], 1, 1)])
    return ((channels,),)


def _vector_operations(node: Node, given: Shape) -> int:
    return layer_operations(node, (*given, 1, 1))


def _norm_zero(node: Node, zeros: frozenset[int]) -> Zero:
    # The second operand says whether the step counts at all; without it a norm of zero is its bias. The last one may
    # be the number of the step.
    exists = range(1, len(node.inputs) - bool(node.attrs.get("counted")))
    return "zero" if zeros.intersection(exists) else "keep"


def _registered(node: Node) -> Trait:
    # One that draws random numbers is to draw them at every step.
    return Trait.NONE if shapes.registered(node.attrs["layer"]).value.random else Trait.STEADY


def _standard_zero(node: Node, zeros: frozenset[int]) -> Zero:
    layer = node.attrs["layer"]
    return STANDARD[layer.layer].zero(**dict(layer.arguments))


def _standard(node: Node) -> Trait:
    return Trait.KEEPS_SPIKES if STANDARD[node.attrs["layer"].layer].keeps_spikes else Trait.NONE


LAYERS: Mapping[str, Op] = {
    "conv": Op(1, 3, layer_shape, _conv_zero, "layer", _WEIGHTED, layer_operations),
    "conv1d": Op(1, 1, layer_shape, _conv_zero, "layer", _WEIGHTED, layer_operations),
    "linear": Op(1, 1, layer_shape, _conv_zero, "layer", _WEIGHTED, layer_operations),
    "pointwise": Op(1, 3, _vector, _conv_zero, "a pointwise convolution of a vector", _WEIGHTED, _vector_operations),
    "bn": Op(1, 3, same_shape, _norm_zero, "layer", _WEIGHTED | Trait.MIXES),
    "avgpool": Op(1, 1, layer_shape, is_zero, "layer", _PURE),
    "maxpool": Op(1, 1, layer_shape, is_zero, "layer", _MAXIMUM),
    "adaptive_avgpool": Op(1, 1, layer_shape, is_zero, "layer", _PURE),
    "adaptive_maxpool": Op(1, 1, layer_shape, is_zero, "layer", _MAXIMUM),
    "flatten": Op(1, 1, layer_shape, is_zero, "layer", _PURE),
    "registered": Op(
        1, 1, layer_shape, must_build, "layer", Trait.PARAMETERS | Trait.MIXES, layer_operations, also=_registered
    ),
    "standard": Op(
        1,
        1,
        layer_shape,
        _standard_zero,
        "layer",
        Trait.STEADY | Trait.PARAMETERS,
        layer_operations,
        also=_standard,
    ),
    "dropout": Op(1, 1, layer_shape, is_zero, "layer", Trait.PARAMETERS),
}
