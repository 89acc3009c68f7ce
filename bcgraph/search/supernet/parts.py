"""A program in parts that architectures share: segments of the backbone, and projections between them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bcgraph.compiler.ir import Edge, Node, Value
from bcgraph.compiler.ops import Trait, has
from bcgraph.compiler.ops.neuron import states_of
from bcgraph.search.supernet.restriction import owner

_SUM, _BASE = ".with_connections", ".of_the_backbone"


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive nodes of a program, what they read of others and what others read of them.

    `key` tells what they compute, apart from the names of what they read. A `segment` is of the backbone alone;
    `varying` are the numbers of those of its inputs that a connection may have been added to.
    """

    key: Hashable
    nodes: tuple[Node, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    segment: bool
    varying: frozenset[int]


def parts(nodes: Sequence[Node], outputs: Iterable[str], given: str) -> list[Part]:
    """`nodes` in parts: cut at each step, before each layer of neurons, and around what belongs to a connection.

    A part that reads nothing, since it holds zeros alone, is handed `given`: it asks how many samples there are.
    """
    groups: list[tuple[Hashable, list[Node]]] = []
    port: int | None = None
    for node in nodes:
        connection = owner(node.name)
        if groups and groups[-1][1][-1].step != node.step:
            port = None
        if connection is None and node.port is not None:
            port = node.port
        place = _place(node, connection, port)
        if not groups or groups[-1][0] != place:
            groups.append((place, []))
        groups[-1][1].append(node)
    readers: dict[str, set[int]] = {name: {len(groups)} for name in outputs}
    for number, (_, members) in enumerate(groups):
        for node in members:
            for edge in node.inputs:
                readers.setdefault(edge.value, set()).add(number)
    found = [_part(number, place, members, readers) for number, (place, members) in enumerate(groups)]
    return [part if part.reads else replace(part, reads=(given,)) for part in found]


def _place(node: Node, connection: str | None, port: int | None) -> Hashable:
    if connection is not None:
        return "connection", connection, node.step
    if node.op in ("stack", "frame"):
        return (node.op,)
    if node.name.endswith(_SUM):
        return "sum", node.name
    return "segment", port, node.step


def _part(number: int, place: Hashable, nodes: Sequence[Node], readers: dict[str, set[int]]) -> Part:
    made = {v.name for node in nodes for v in node.outputs}
    reads = tuple(dict.fromkeys(e.value for node in nodes for e in node.inputs if e.value not in made))
    places = {name: index for index, name in enumerate(reads)}
    assert isinstance(place, tuple)
    # What a connection of another architecture may read leaves a segment in any case: it is the same part for all.
    gives = tuple(
        v.name
        for node in nodes
        for v in node.outputs
        if any(reader != number for reader in readers.get(v.name, ()))
        or (place[0] == "segment" and (has(node, Trait.NEURON) or node.op == "pack"))
    )
    shape = tuple(
        (
            node.name,
            node.module,
            # What a projection is made of may differ from candidate to candidate; the backbone is one.
            node.attributes if place[0] == "connection" else (),
            tuple(v.name for v in node.outputs),
            tuple(places.get(e.value, e.value) for e in node.inputs),
        )
        for node in nodes
    )
    first = nodes[0]
    own = len(first.inputs) - (len(states_of(first)) if has(first, Trait.NEURON) else 0)
    varying = frozenset(places[e.value] for e in first.inputs[:own] if e.value in places)
    return Part((place, shape, gives), tuple(nodes), reads, gives, place[0] == "segment", varying)


def with_single_currents(nodes: Sequence[Node]) -> Iterator[Node]:
    """`nodes` with the currents of each neuron added up before it, those of the backbone first.

    So a neuron is the same whatever connections reach it, and the order of the sum is as before.
    """
    for node in nodes:
        count = len(node.inputs) - len(states_of(node)) if has(node, Trait.NEURON) and "steps" not in node.attrs else 1
        if count == 1 or node.op != "neuron":
            yield node
            continue
        currents, states = node.inputs[:count], node.inputs[count:]
        own = [edge for edge in currents if owner(edge.value) is None]
        others = [edge for edge in currents if owner(edge.value) is not None]
        current = own[0]
        for name, edges in ((_BASE, own), (_SUM, [current, *others])):
            operands = (current, *edges[1:])
            if len(operands) > 1:
                value = Value(f"{node.name}{name}", node.outputs[0].shape)
                yield Node(value.name, "add", operands, (value,), step=node.step, span=node.span)
                current = Edge(value.name)
        yield replace(node, inputs=(current, *states))
