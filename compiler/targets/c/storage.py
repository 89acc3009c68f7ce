"""Where the values of a step lie: which are whole numbers of a byte, and which share memory.

Spikes, and sums and products of them that stay below 256, take a byte. What a step computes and no later step reads
lies in one of two arrays, floats and bytes, and shares places with what is not alive at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bcgraph.compiler.ir import Node, Program
from bcgraph.compiler.ops import OPS, Trait
from bcgraph.compiler.ops.neuron import equations_of
from bcgraph.equations.expression import Apply, Number
from bcgraph.equations.neuron import SPIKES

LARGEST = 255


def size(shape: Sequence[int]) -> int:
    """The number of values of a shape."""
    return math.prod(shape)


def whole(program: Program) -> Mapping[str, int]:
    """For each value that is always a whole number of a byte, from 0, the largest it can be."""
    states = {s.input: s.output for s in program.states}
    # What a state holds is what its output was: all of them are taken for spikes until something else is found.
    held = dict.fromkeys(states, 1)
    while True:
        found: dict[str, int] = dict(held)
        for node in program.nodes:
            largest = _rule(node)([found.get(edge.value) for edge in node.inputs])
            if largest is not None and largest <= LARGEST:
                found[node.outputs[0].name] = largest
        after = {name: found[output] for name, output in states.items() if output in found and name in held}
        if after == held:
            return found
        held = after


_Bounds = Sequence[int | None]
_Rule = Callable[[_Bounds], int | None]


def _rule(node: Node) -> _Rule:
    if Trait.NEURON in OPS[node.op].traits:
        return lambda given: _sent(node)
    return _RULES.get(node.op, lambda given: None)


def _sent(node: Node) -> int | None:
    equations = equations_of(node)
    if equations.gives[0] != SPIKES:
        return None
    if equations.binary:
        return 1
    sends = dict(equations.body)[SPIKES]
    if equations.counts and isinstance(sends, Apply) and isinstance(sends.operands[2], Number):
        return int(sends.operands[2].value)
    return None


def _known(given: _Bounds) -> list[int] | None:
    numbers = [each for each in given if each is not None]
    return numbers if len(numbers) == len(given) else None


def _most(given: _Bounds) -> int | None:
    numbers = _known(given)
    return max(numbers) if numbers else None


def _total(given: _Bounds) -> int | None:
    numbers = _known(given)
    return sum(numbers) if numbers else None


def _product(given: _Bounds) -> int | None:
    numbers = _known(given)
    return math.prod(numbers) if numbers else None


_RULES: Mapping[str, _Rule] = {
    "maxpool": _most,
    "adaptive_maxpool": _most,
    "flatten": _most,
    "dropout": _most,
    "add": _total,
    "mul": _product,
    "concat": _most,
    "resize": _most,
    "to_image": _most,
    "to_signal": _most,
    "to_vector": _most,
    "present": lambda given: given[0],
    "one": lambda given: 1,
    "zeros": lambda given: 0,
}


@dataclass(frozen=True, slots=True)
class Life:
    """A value from the node that makes it to the last that reads it: `count` values of the C type `kind`."""

    name: str
    kind: str
    count: int
    first: int
    last: int


def placed(lives: Sequence[Life]) -> tuple[dict[str, int], int]:
    """Where each value begins in an array, and how long the array is; values alive together do not overlap.

    The largest are placed first, each at the first place that is free for as long as it lives.
    """
    places: dict[str, int] = {}
    done: list[Life] = []
    for life in sorted(lives, key=lambda each: (-each.count, each.first, each.name)):
        start = 0
        together = (each for each in done if each.first <= life.last and life.first <= each.last)
        for other in sorted(together, key=lambda each: places[each.name]):
            if start + life.count <= places[other.name]:
                break
            start = max(start, places[other.name] + other.count)
        places[life.name] = start
        done.append(life)
    return places, max((places[each.name] + each.count for each in lives), default=0)
