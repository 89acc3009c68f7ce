"""The projections of a graph that can be merged, in groups: what `merge_projections` begins with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bcgraph import shapes
from bcgraph.compiler.ir import Node, TemporalGraph, Value
from bcgraph.compiler.ops.neuron import states_of
from bcgraph.compiler.scc import components
from bcgraph.names import parse_projection

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Connection:
    """A backward connection whose projection is a pointwise convolution and a norm, before or after an enlargement.

    `reader` reads it as operand number `index`, `delay` steps late. What is projected is `x`, whose maps are `given`;
    those of the target are `size`, or 1x1 for a `vector`. `repeats` counts the copies of each value after the resize.
    `gone` are the nodes of the projection, but for an enlargement before it, which others may read.
    """

    reader: Node
    index: int
    delay: int
    x: str
    given: Size
    conv: Node
    bn: Node
    size: Size
    vector: bool
    repeats: int
    gone: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Of the target."""
        return self.bn.output.shape[0]

    @property
    def source(self) -> int:
        """The number of the port that it comes from."""
        return self._pair()[0]

    @property
    def target(self) -> int:
        """The number of the port that it goes to."""
        return self._pair()[1]

    def _pair(self) -> tuple[int, int]:
        found = parse_projection(str(self.conv.module))
        assert found is not None
        return found.source, found.target


def groups(graph: TemporalGraph) -> list[tuple[Connection, ...]]:
    """Connections that share sources or targets, directly or through others, in the order of the graph.

    Those of one group have one delay, lie in one feedback loop, and have norms of equal settings.
    """
    loops = {n.name: i for i, c in enumerate(components(graph)) for n in c.nodes}
    alike: dict[Any, list[Connection]] = {}
    for c in _connections(graph):
        if loops[c.conv.name] == loops[c.reader.name]:
            norm = replace(c.bn.attrs["layer"].norm, gain=1.0)
            alike.setdefault((c.delay, loops[c.reader.name], norm), []).append(c)
    return [group for some in alike.values() for group in _linked(some)]


def _linked(some: list[Connection]) -> list[tuple[Connection, ...]]:
    """`some` apart where they share neither sources nor targets."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for c in some:
        parent[root(f"target {c.reader.name}")] = root(f"source {c.x}")
    found: dict[str, list[Connection]] = {}
    for c in some:
        found.setdefault(root(f"source {c.x}"), []).append(c)
    return [tuple(group) for group in found.values()]


def _connections(graph: TemporalGraph) -> Iterator[Connection]:
    values = graph.values()
    producers = graph.producers()
    readers = graph.readers()
    seen: set[tuple[str, str]] = set()
    for reader in graph.nodes:
        for index in _currents(reader):
            edge = reader.inputs[index]
            chain = _chain(edge.value, producers)
            if not edge.delay or chain is None or any(_shared(n, graph, readers) for n in chain.values()):
                continue
            conv, bn = chain["conv"], chain["bn"]
            x = _before_resize(conv.inputs[0].value, producers, values)
            vector = "to_vector" in chain
            end = chain["to_vector"].inputs[0].value if vector else edge.value
            given, size = (shapes.spatial(v.shape) for v in (values[x], values[end]))
            whole = not any(a % b for a, b in zip(size, given, strict=True))
            if whole and (x, reader.name) not in seen:
                seen.add((x, reader.name))
                repeats = (size[0] // given[0]) * (size[1] // given[1])
                gone = tuple(node.name for node in chain.values())
                yield Connection(reader, index, edge.delay, x, given, conv, bn, size, vector, repeats, gone)


def _before_resize(value: str, producers: dict[str, Node], values: dict[str, Value]) -> str:
    """What `value` enlarges by a whole ratio, or itself: a pointwise convolution sees the same values."""
    node = producers.get(value)
    if node is None or node.op != "resize" or node.inputs[0].delay:
        return value
    (given, wanted) = (shapes.spatial(values[name].shape) for name in (node.inputs[0].value, value))
    return value if any(b % a for a, b in zip(given, wanted, strict=True)) else node.inputs[0].value


def _currents(node: Node) -> range:
    """Which operands a node adds up."""
    if node.op == "neuron":
        return range(len(node.inputs) - len(states_of(node)))
    return range(len(node.inputs) if node.op == "add" else 0)


def _chain(value: str, producers: dict[str, Node]) -> dict[str, Node] | None:
    """The nodes of the projection that ends in `value`, by operation; None where it is something else."""
    found: dict[str, Node] = {}
    for op in ("to_vector", "resize", "bn", "conv"):
        node = producers.get(value)
        if node is None or node.op != op:
            if op in ("to_vector", "resize"):
                continue
            return None
        if len(node.inputs) != 1 or node.inputs[0].delay:
            return None
        found[op] = node
        value = node.inputs[0].value
    conv, norm = found["conv"].attrs["layer"], found["bn"].attrs["layer"].norm
    plain = conv.pointwise and conv.groups == 1 and not conv.bias
    named = parse_projection(str(found["conv"].module)) is not None
    return found if plain and named and not norm.by_step else None


def _shared(node: Node, graph: TemporalGraph, readers: dict[str, list[tuple[Node, int]]]) -> bool:
    value: Value = node.output
    return value.name in graph.outputs or len(readers[value.name]) != 1
