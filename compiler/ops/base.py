"""What an operation declares: arity, shapes, traits, cost, and what a zero operand means.

A fact about an operation stands with the operation; passes, schedules, targets and costs ask for it here and hold no
lists of names. A missing step reads zero (before step d of a delay d). A schedule that knows this at compile time asks
the operation's `zero` what is left of the node, so that no zero tensor is built for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, Literal, TypeAlias

from bcgraph import shapes
from bcgraph.compiler.ir import Node
from bcgraph.shapes import Shape

Infer: TypeAlias = Callable[[Node, Sequence[Shape]], tuple[Shape, ...]]

Zero: TypeAlias = Literal["zero", "drop", "pass", "keep"] | Node
"""What a node is worth when some of its operands are zero: "zero" (zero as well), "drop" (leave the operands out),
"pass" (the value of the operand that is left), "keep" (the zero has to be built), or the node that it becomes without
those operands."""


class Trait(Flag):
    """What holds of every node of an operation."""

    NONE = 0
    PURE = auto()
    """The result depends on operands and attributes alone: two equal nodes are one."""
    STEADY = auto()
    """Equal operands give equal results at every step (a norm with statistics for each step is the exception)."""
    KEEPS_SPIKES = auto()
    """Zeros and ones in, zeros and ones out."""
    FIRES = auto()
    """The first result is what a port sends."""
    BINARY = auto()
    """The first result is zeros and ones."""
    NEURON = auto()
    """A whole neuron: results are what it sends and its states; those of the step before are its last operands."""
    ALLOCATES = auto()
    """Results are memory of their own. Any other operation may return a view of an operand."""
    WEIGHTS = auto()
    """Results are weights, the same for all samples and steps."""
    PARAMETERS = auto()
    """A module owns parameters, or a mode, of the node."""
    MIXES = auto()
    """The result of a sample may depend on the other samples of its batch."""


@dataclass(frozen=True, slots=True)
class Op:
    """An operation: `least` to `most` operands (None: any number), the shapes it computes, its traits.

    `operations` gives the multiply-accumulates of one sample and step from the shape of the first operand. `also` gives
    the traits that depend on the node.
    """

    least: int
    most: int | None
    infer: Infer
    zero: Callable[[Node, frozenset[int]], Zero]
    evaluates: str
    traits: Trait = Trait.NONE
    operations: Callable[[Node, Shape], int] | None = None
    also: Callable[[Node], Trait] | None = None

    def has(self, trait: Trait) -> bool:
        """Whether all nodes of the operation have `trait`."""
        return trait in self.traits

    def of(self, node: Node) -> Trait:
        """The traits of one node."""
        return self.traits if self.also is None else self.traits | self.also(node)


def attributes(**values: Any) -> tuple[tuple[str, Any], ...]:
    """Attributes in the sorted order that a node keeps them in."""
    return tuple(sorted(values.items()))


def same_shape(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    """One result, of the shape of the first operand."""
    return (given[0],)


def sum_shape(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    """One result, of the shape that all operands have. Raises ValueError where they differ."""
    if any(s != given[0] for s in given):
        raise ValueError(f"{node.name} adds shapes {' and '.join(map(shapes.text, given))}")
    return (given[0],)


def layer_shape(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    """One result, of the shape that the node's layer computes."""
    return (shapes.infer(node.attrs["layer"], given[0]),)


def layer_operations(node: Node, given: Shape) -> int:
    """Multiply-accumulates of the node's layer."""
    return shapes.operations(node.attrs["layer"], given)


def is_zero(node: Node, zeros: frozenset[int]) -> Zero:
    """Zero in, zero out."""
    return "zero"


def must_build(node: Node, zeros: frozenset[int]) -> Zero:
    """The zero is an operand like any other."""
    return "keep"
