"""The memory plan of a program for inference: which spikes and states of neurons may share a slot.

A value's slot is free once its last reader has run. A state takes the slot of its value before, which the neuron reads,
element by element, before it writes. Values that leave the program have no slot: the caller owns them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from bcgraph.compiler.ir import Node, Program, Value
from bcgraph.compiler.ops import Trait, has
from bcgraph.compiler.ops.neuron import equations_of, states_of


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """For each planned value the number of its slot, and for each slot its size in values a sample."""

    slots: Mapping[str, int]
    sizes: tuple[int, ...]


def plan(program: Program, kept: Collection[str] = ()) -> MemoryPlan:
    """Slots for the results of all neurons of `program`, except values that are `kept` beyond the call."""
    roots = _roots(program)
    leaving = {root for name in (*program.outputs, *kept) for root in roots.get(name, ())}
    last = {root: i for i, n in enumerate(program.nodes) for e in n.inputs for root in roots.get(e.value, ())}
    slots: dict[str, int] = {}
    sizes: list[int] = []
    free: dict[int, list[int]] = {}
    for index, node in enumerate(program.nodes):
        if has(node, Trait.NEURON):
            for value in node.outputs:
                if value.name in leaving:
                    continue
                size = math.prod(value.shape) * max(1, value.steps)
                held = _before(node, value, slots, last, index)
                if held is None:
                    waiting = free.setdefault(size, [])
                    held = waiting.pop() if waiting else len(sizes)
                    if held == len(sizes):
                        sizes.append(size)
                slots[value.name] = held
        for name in _over(node, roots, slots, last, index):
            free.setdefault(sizes[slots[name]], []).append(slots[name])
    return MemoryPlan(slots, tuple(sizes))


def _roots(program: Program) -> dict[str, frozenset[str]]:
    """For each value, the results of neurons that it may be a view of."""
    found: dict[str, frozenset[str]] = {}
    for node in program.nodes:
        reads = frozenset(root for e in node.inputs for root in found.get(e.value, ()))
        for value in node.outputs:
            if has(node, Trait.NEURON):
                found[value.name] = frozenset({value.name})
            else:
                found[value.name] = frozenset() if has(node, Trait.ALLOCATES) else reads
    return found


def _before(node: Node, value: Value, slots: Mapping[str, int], last: Mapping[str, int], index: int) -> int | None:
    """The slot of the state that `node` reads, if `value` is its next value and nobody reads the old one later."""
    if "steps" in node.attrs:
        return None
    equations = equations_of(node)
    name = equations.gives[node.outputs.index(value)]
    place = states_of(node).get(name)
    if place is None or last.get(node.inputs[place].value) != index:
        return None
    return slots.get(node.inputs[place].value)


def _over(
    node: Node, roots: Mapping[str, frozenset[str]], slots: Mapping[str, int], last: Mapping[str, int], index: int
) -> Iterator[str]:
    """The values whose slot is free after `node`: its last reads, and its results that have no reader."""
    made = [v.name for v in node.outputs if v.name in slots and v.name not in last]
    read = {root for e in node.inputs for root in roots.get(e.value, ()) if root in slots and last[root] == index}
    handed = {slots[v.name] for v in node.outputs if v.name in slots}
    yield from made
    yield from sorted(name for name in read if slots[name] not in handed)
