"""A program in parts that architectures share: segments of the backbone, and projections between them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from bcgraph.compiler.ir import Edge, Node, Value
from bcgraph.compiler.ops import Trait, has
from bcgraph.compiler.ops.neuron import states_of
from bcgraph.search.supernet.restriction import owner

_SUM, _BASE = ".with_connections", ".of_the_backbone"
_NOBODY: frozenset[int] = frozenset()

# What was made of nodes and parts is forgotten beyond so many parts: where architectures have many connections, few
# come again.
_KEPT = 2**15


class Key:
    """What a part computes, which is hashed once: it is long, and looked up in each step of a search."""

    __slots__ = ("_content", "_hash")

    def __init__(self, *content: Hashable) -> None:
        self._content = content
        self._hash = hash(content)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._hash == other._hash and self._content == other._content


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive nodes of a program, what they read of others and what others read of them.

    `key` tells what they compute, apart from the names of what they read. A `segment` is of the backbone alone;
    `varying` are the numbers of those of its inputs that a connection may have been added to.
    """

    key: Key
    nodes: tuple[Node, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    segment: bool
    varying: frozenset[int]


@dataclass(frozen=True, eq=False, slots=True)
class _Known:
    """Of which connection a node is, and whether connections may read what it gives."""

    node: Node
    connection: str | None
    is_sent: bool


@dataclass(eq=False)
class Divider:
    """Divides programs into parts: cut at each step, before each layer of neurons, and around each connection.

    Programs of one restriction have most nodes in common, so what was made of a node or of a part is kept.
    """

    _single: dict[int, tuple[Node, tuple[Node, ...]]] = field(default_factory=dict)
    _known: dict[int, _Known] = field(default_factory=dict)
    _parts: dict[Hashable, Part] = field(default_factory=dict)

    def parts(self, nodes: Sequence[Node], outputs: Iterable[str], given: str) -> list[Part]:
        """`nodes` in parts. One that reads nothing, since it holds zeros alone, is handed `given`.

        It asks how many samples there are.
        """
        if len(self._parts) > _KEPT:
            # All of it: what is kept goes by nodes that live as long as it does.
            for kept in (self._single, self._known, self._parts):
                kept.clear()
        groups = self._groups(nodes)
        readers: dict[str, set[int]] = {name: {len(groups)} for name in outputs}
        for number, (_, members) in enumerate(groups):
            for node in members:
                for edge in node.inputs:
                    readers.setdefault(edge.value, set()).add(number)
        found = [self._part(number, place, members, readers) for number, (place, members) in enumerate(groups)]
        return [part if part.reads else replace(part, reads=(given,)) for part in found]

    def with_single_currents(self, nodes: Sequence[Node]) -> list[Node]:
        """`nodes` with the currents of each neuron added up before it, those of the backbone first.

        So a neuron is the same whatever connections reach it, and the order of the sum is as before.
        """
        found: list[Node] = []
        for node in nodes:
            held = self._single.get(id(node))
            if held is None:
                held = self._single[id(node)] = (node, tuple(_with_single_current(node)))
            found += held[1]
        return found

    def _groups(self, nodes: Sequence[Node]) -> list[tuple[Hashable, list[Node]]]:
        groups: list[tuple[Hashable, list[Node]]] = []
        port: int | None = None
        for node in nodes:
            connection = self._what(node).connection
            if groups and groups[-1][1][-1].step != node.step:
                port = None
            if connection is None and node.port is not None:
                port = node.port
            place = _place(node, connection, port)
            if not groups or groups[-1][0] != place:
                groups.append((place, []))
            groups[-1][1].append(node)
        return groups

    def _what(self, node: Node) -> _Known:
        found = self._known.get(id(node))
        if found is None:
            is_sent = node.op == "pack" or has(node, Trait.NEURON)
            found = self._known[id(node)] = _Known(node, owner(node.name), is_sent)
        return found

    def _part(self, number: int, place: Hashable, nodes: Sequence[Node], readers: dict[str, set[int]]) -> Part:
        assert isinstance(place, tuple)
        # What a connection of another architecture may read leaves a segment in any case: it is the same part for all.
        gives = tuple(
            v.name
            for node in nodes
            for v in node.outputs
            if not readers.get(v.name, _NOBODY) <= {number} or (place[0] == "segment" and self._what(node).is_sent)
        )
        key = (place, tuple(map(id, nodes)), gives)
        if key not in self._parts:
            self._parts[key] = _part(place, nodes, gives)
        return self._parts[key]


def _place(node: Node, connection: str | None, port: int | None) -> Hashable:
    if connection is not None:
        return "connection", connection, node.step
    if node.op in ("stack", "frame"):
        return (node.op,)
    if node.name.endswith(_SUM):
        return "sum", node.name
    return "segment", port, node.step


def _part(place: tuple[Hashable, ...], nodes: Sequence[Node], gives: tuple[str, ...]) -> Part:
    made = {v.name for node in nodes for v in node.outputs}
    reads = tuple(dict.fromkeys(e.value for node in nodes for e in node.inputs if e.value not in made))
    places = {name: index for index, name in enumerate(reads)}
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
    return Part(Key(place, shape, gives), tuple(nodes), reads, gives, place[0] == "segment", varying)


def _with_single_current(node: Node) -> Iterator[Node]:
    count = len(node.inputs) - len(states_of(node)) if has(node, Trait.NEURON) and "steps" not in node.attrs else 1
    if count == 1 or node.op != "neuron":
        yield node
        return
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
