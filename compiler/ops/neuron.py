"""Neurons: one equation of a definition as a node, and nodes that hold all of them.

Nothing here knows a neuron by name: what an equation computes, what a missing state leaves of it and whether it fires
follow from its expression.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from bcgraph.compiler.ir import Node
from bcgraph.compiler.ops.base import Op, Trait, Zero, is_zero, layer_operations, layer_shape, same_shape
from bcgraph.equations.expression import Expression, Number, Read
from bcgraph.equations.neuron import CURRENT, SPIKES, Equations, is_binary
from bcgraph.equations.simplify import ZERO, NoValueError, with_values
from bcgraph.schema import NeuronLayer
from bcgraph.shapes import Shape

_WHOLE = Trait.NEURON | Trait.FIRES | Trait.ALLOCATES


# --- one equation ---------------------------------------------------------------------------------------------


def _equation_zero(node: Node, zeros: frozenset[int]) -> Zero:
    a = node.attrs
    known: dict[str, Expression] = {a["reads"][index]: ZERO for index in zeros}
    try:
        left = with_values(a["expression"], known)
    except NoValueError:
        return "keep"
    if left == ZERO:
        return "zero"
    if isinstance(left, Number):
        return "keep"
    if isinstance(left, Read) and left.key in a["reads"] and a["gives"] != SPIKES:
        # A port has a value of its own, even where it is another's.
        return "pass"
    kept = tuple(key for index, key in enumerate(a["reads"]) if index not in zeros)
    if not kept:
        # What learned parameters alone decide still has the shape of an operand.
        return "keep"
    return node.with_attrs(expression=left, reads=kept)


def _equation_traits(node: Node) -> Trait:
    if node.attrs["gives"] != SPIKES:
        return Trait.NONE
    return Trait.FIRES | (Trait.BINARY if is_binary(node.attrs["expression"]) else Trait.NONE)


# --- all equations --------------------------------------------------------------------------------------------


def equations_of(node: Node) -> Equations:
    """The equations of a whole neuron."""
    found: Equations = node.attrs["equations"]
    return found


def states_of(node: Node) -> dict[str, int]:
    """For each state of the step before that a neuron reads, the number of its operand: the last ones."""
    names = equations_of(node).states
    start = len(node.inputs) - len(names)
    return {name: start + index for index, name in enumerate(names)}


def layer_of(node: Node) -> NeuronLayer:
    """The layer of neurons that a node is, or is a part of."""
    found: NeuronLayer = node.attrs.get("neuron", node.attrs["layer"])
    return found


def variant(node: Node) -> str:
    """What a neuron of one step is in its time: `start` without states to read, `end` without states to give."""
    states = layer_of(node).neuron.equations.states
    equations = equations_of(node)
    parts = ["start"] if states and not equations.states else []
    return "_".join([*parts, *(["end"] if states and equations.gives == (SPIKES,) else [])])


def narrowed(node: Node, gives: Collection[str]) -> tuple[Node, frozenset[int]]:
    """The neuron that gives no more than `gives` (all of it where that is nothing), and the operands to leave out."""
    equations = equations_of(node)
    wanted = tuple(name for name in equations.gives if name in gives) or equations.gives
    if wanted == equations.gives:
        return node, frozenset()
    fewer = equations.giving(wanted)
    places = states_of(node)
    gone = frozenset(places[name] for name in equations.states if name not in fewer.states)
    outputs = tuple(v for name, v in zip(equations.gives, node.outputs, strict=True) if name in wanted)
    return replace(node.with_attrs(equations=fewer), outputs=outputs), gone


def _neuron(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    if any(s != given[0] for s in given):
        raise ValueError(f"{node.name} adds currents of different shapes")
    return (given[0],) * len(equations_of(node).gives)


def _conv_neuron(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    # Operands are x, weight and bias, and then those of a `neuron` but the current that these make.
    return _neuron(node, (*layer_shape(node, given), *given[3:]))


def _neuron_zero(node: Node, zeros: frozenset[int]) -> Zero:
    places = states_of(node)
    currents = frozenset(range(len(node.inputs) - len(places)))
    missing = [name for name, index in places.items() if index in zeros]
    equations = equations_of(node)
    try:
        if currents <= zeros:
            left = equations.without((CURRENT, *missing))
            silent = all(left.constant(name) == 0.0 for name in left.gives)
            return "zero" if silent else "keep"
        return node.with_attrs(equations=equations.without(missing))
    except NoValueError:
        return "keep"


def _conv_neuron_zero(node: Node, zeros: frozenset[int]) -> Zero:
    # The convolution of zero is its bias; other currents and states can be left out.
    if 0 in zeros:
        return "keep"
    missing = [name for name, index in states_of(node).items() if index in zeros]
    try:
        return node.with_attrs(equations=equations_of(node).without(missing))
    except NoValueError:
        return "keep"


def _neuron_traits(node: Node) -> Trait:
    equations = equations_of(node)
    return Trait.BINARY if SPIKES in equations.gives and equations.binary else Trait.NONE


NEURON: Mapping[str, Op] = {
    "equation": Op(1, None, same_shape, _equation_zero, "one equation of a neuron's definition", also=_equation_traits),
    "neuron": Op(1, None, _neuron, _neuron_zero, "all equations of a neuron", _WHOLE, also=_neuron_traits),
    "conv_neuron": Op(
        3,
        None,
        _conv_neuron,
        _conv_neuron_zero,
        "a convolution and a `neuron` on its result",
        _WHOLE,
        layer_operations,
        _neuron_traits,
    ),
    "pack": Op(1, 1, same_shape, is_zero, "the spikes as bits"),
}
