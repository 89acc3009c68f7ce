"""`defer_norm`: the batch norms of a connection run when their value is read, not when it is made.

A projection that no step reads is not evaluated, so its batch norms see T - d updates (section 6 of the meaning).
The unrolled schedule knows the last step; a program of one step does not. So the delay is moved in front of the first
norm, together with a flag that was delayed as long: where the flag is zero the step does not exist, the result of a
norm is exactly zero and no statistics are taken.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value, free
from bcgraph.compiler.ops import OPS
from bcgraph.compiler.ops.layers import by_step


@dataclass(frozen=True)
class DeferNorm:
    """Move delays from after the norms of connections to before them.

    Norms with statistics or a scale for each step stay unless `by_step` is set: of the schedules that tell steps apart,
    only `step` can tell which step a deferred norm is of, and the others know the last step. Where a layer after a norm
    makes something of zero, as a bias does, a `present` node ends the chain.
    """

    name: ClassVar[str] = "defer_norm"
    inference_only: ClassVar[bool] = False
    by_step: bool = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph in which every delay ends before the norms that only late readers need."""
        delays = _late(graph)
        moved = _moved(graph, delays, self.by_step)
        if not moved:
            return graph
        producers = graph.producers()
        nodes: list[Node] = []
        # An earlier run of the pass has left its flag.
        flag = next((node.output.name for node in graph.nodes if node.op == "one"), None)
        if flag is None:
            flag = free("exists", {*graph.values(), *(n.name for n in graph.nodes)})
            nodes.append(Node(flag, "one", (), (Value(flag, ()),)))
        placed: set[str] = set()

        def place(node: Node) -> None:
            """The moved node and those that it reads, late where they come from outside of what is moved."""
            if node.name in placed:
                return
            placed.add(node.name)
            if steady(node):
                nodes.append(node)
                return
            delay = delays[node.name]
            reads: list[Edge] = []
            for edge in node.inputs:
                source = producers.get(edge.value)
                if source is not None and (source.name in moved or steady(source)):
                    place(source)
                    reads.append(edge)
                else:
                    reads.append(Edge(edge.value, delay))
            if node.op == "bn":
                reads.append(Edge(flag, delay))
            nodes.append(replace(node, inputs=tuple(reads)))

        def ended(node: Node) -> str:
            """The moved node's value, zero where its step does not exist."""
            place(node)
            name = f"{node.output.name}.present"
            if name in placed:
                return name
            if keeps_zero(node, producers, moved):
                return node.output.name
            placed.add(name)
            edges = (Edge(node.output.name), Edge(flag, delays[node.name]))
            nodes.append(Node(name, "present", edges, (Value(name, node.output.shape),), span=node.span))
            return name

        for node in graph.nodes:
            if node.name not in moved and node.name not in placed:
                placed.add(node.name)
                sources = [producers.get(edge.value) for edge in node.inputs]
                reads = tuple(
                    Edge(ended(source)) if source is not None and source.name in moved else edge
                    for edge, source in zip(node.inputs, sources, strict=True)
                )
                nodes.append(replace(node, inputs=reads))
        return graph.with_nodes(tuple(nodes))


def _late(graph: TemporalGraph) -> dict[str, int]:
    """For each node whose values are only read late, the one delay by which everything after it is read."""
    readers = graph.readers()
    found: dict[str, int] = {}
    for node in reversed(graph.nodes):
        delays = {
            reader.inputs[index].delay or found.get(reader.name, 0)
            for value in node.outputs
            for reader, index in readers[value.name]
        }
        if len(node.outputs) == 1 and len(delays) == 1 and 0 not in delays and node.output.name not in graph.outputs:
            found[node.name] = delays.pop()
    return found


def _moved(graph: TemporalGraph, delays: Mapping[str, int], numbered: bool) -> frozenset[str]:
    """The norms that can be deferred, and what stands between them and their late readers."""
    readers = graph.readers()
    moved: set[str] = set()
    for node in graph.nodes:
        late = node.op == "bn" and node.name in delays and len(node.inputs) == 1
        if late and (numbered or not by_step(node)):
            moved |= _after(node, readers)
    return frozenset(moved)


def _after(node: Node, readers: Mapping[str, Collection[tuple[Node, int]]]) -> set[str]:
    """The node and all that its value reaches in the same step."""
    found = {node.name}
    pending = [node]
    while pending:
        for reader, index in readers[pending.pop().output.name]:
            if not reader.inputs[index].delay and reader.name not in found:
                found.add(reader.name)
                pending.append(reader)
    return found


def steady(node: Node) -> bool:
    """Whether a node reads no value, as one that folds weights: it is the same in all steps, and never late."""
    return node.invariant and not node.inputs


def keeps_zero(node: Node, producers: Mapping[str, Node], moved: Collection[str]) -> bool:
    """Whether a moved node is zero before its first step: a norm is, and what makes zero of nothing but zeros."""
    if node.op == "bn":
        return True
    sources = [producers.get(edge.value) for edge in node.inputs]
    zero = frozenset(index for index, source in enumerate(sources) if source is None or not steady(source))
    if OPS[node.op].zero(node, zero) != "zero":
        return False
    return all(keeps_zero(each, producers, moved) for each in sources if each is not None and each.name in moved)
