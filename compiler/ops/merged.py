"""Merged projections: several connections computed by one convolution, one sum and one resize."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bcgraph.compiler.ir import Node
from bcgraph.compiler.ops.base import (
    Op,
    Trait,
    Zero,
    is_zero,
    layer_operations,
    layer_shape,
    must_build,
    same_shape,
)
from bcgraph.shapes import Shape


@dataclass(frozen=True, slots=True)
class Part:
    """One projection inside a merged one: the names of its convolution and norm, and its channels.

    In the sum its channels begin at channel `at`. `repeats` counts the copies of each value after the later resize.
    """

    conv: str
    norm: str
    channels: int
    at: int
    repeats: int

    def __str__(self) -> str:
        return f"{self.norm} at {self.at}"


Stack = tuple[Part, ...]
"""The projections of one source, in the order of their channels."""


def stacks_of(node: Node) -> tuple[Stack, ...]:
    """For each term that `node` adds up, the projections in it."""
    found: tuple[Stack, ...] = node.attrs["stacks"]
    return found


def runs(stack: Stack) -> tuple[tuple[int, int, int], ...]:
    """The ranges of channels of `stack` that stay together in the sum, as (first, count, at)."""
    found: list[tuple[int, int, int]] = []
    start = 0
    for part in stack:
        if found and found[-1][2] + found[-1][1] == part.at:
            first, count, at = found.pop()
            found.append((first, count + part.channels, at))
        else:
            found.append((start, part.channels, part.at))
        start += part.channels
    return tuple(found)


def _sum(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    for stack, shape in zip(stacks_of(node), given, strict=False):
        if shape != (sum(part.channels for part in stack), *given[0][1:]):
            raise ValueError(f"{node.name}: an operand does not have the channels of its projections")
    return ((node.attrs["channels"], *given[0][1:]),)


def _norm_sum_zero(node: Node, zeros: frozenset[int]) -> Zero:
    # The operand after scale and shift says whether the step counts at all; without it a norm of zero is its bias.
    return "zero" if len(stacks_of(node)) + 2 in zeros else "keep"


def _project_sum(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    # Operands are what is projected, as many weights, and the bias.
    count = len(stacks_of(node))
    if tuple(shape[0] for shape in given[:count]) != node.attrs["given"] or len(given) != 2 * count + 1:
        raise ValueError(f"{node.name}: operands do not fit its projections")
    return ((node.attrs["channels"], *given[0][1:]),)


def _sum_operations(node: Node, given: Shape) -> int:
    read: tuple[int, ...] = node.attrs["given"]
    made = (sum(part.channels for part in stack) for stack in stacks_of(node))
    return math.prod(given[1:]) * sum(a * b for a, b in zip(read, made, strict=True))


def _split(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    return tuple((count, *given[0][1:]) for count in node.attrs["counts"])


MERGED: Mapping[str, Op] = {
    "stack_parameters": Op(
        0,
        0,
        same_shape,
        must_build,
        "parameters of several layers in one tensor",
        Trait.STEADY | Trait.ALLOCATES | Trait.WEIGHTS,
    ),
    "fold_norms": Op(
        0,
        0,
        same_shape,
        must_build,
        "the weights of several convolutions with their norms in them, and the bias of their sum",
        Trait.STEADY | Trait.ALLOCATES | Trait.WEIGHTS,
    ),
    "project": Op(
        2, 3, layer_shape, is_zero, "a convolution whose weight is an operand", Trait.ALLOCATES, layer_operations
    ),
    "norm_sum": Op(3, None, _sum, _norm_sum_zero, "each projection by its own norm, summed by target", Trait.ALLOCATES),
    "project_sum": Op(
        3, None, _project_sum, must_build, "convolutions summed by target", Trait.ALLOCATES, _sum_operations
    ),
    "split": Op(1, 1, _split, is_zero, "the channels in parts of the sizes `counts`", Trait.STEADY),
}
