"""`defer_norm`: the batch norm of a backward connection runs when its value is read, not when it is made.

A projection that no step reads is not evaluated, so its batch norm sees T - d updates (section 6 of the meaning).
The unrolled schedule knows the last step; a program of one step does not. So the delay is moved in front of the norm,
together with a flag that was delayed as long: where the flag is zero the step does not exist, the result is exactly
zero and no statistics are taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value, free


@dataclass(frozen=True)
class DeferNorm:
    """Move delays from after the norms of backward connections to before them.

    Norms with statistics of their own for each step stay: they need a schedule that tells steps apart, which also knows
    the last step.
    """

    name: ClassVar[str] = "defer_norm"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph in which every delay ends before a norm that only late readers need."""
        readers = graph.readers()
        producers = graph.producers()
        deferred: dict[str, int] = {}
        for node in graph.nodes:
            if node.op != "bn" or len(node.inputs) != 1 or node.attrs["layer"].norm.by_step:
                continue
            delays = _late(node, graph, readers)
            if delays is not None:
                deferred[node.name] = delays
        if not deferred:
            return graph
        moved: set[str] = set()
        for name in deferred:
            moved |= _behind(producers[name], readers)
        kept = [n for n in graph.nodes if n.name not in moved]
        flag = free("exists", graph.values())
        nodes: list[Node] = [Node(free(flag, {n.name for n in graph.nodes}), "one", (), (Value(flag, ()),))]
        for node in kept:
            for edge in node.inputs:
                if edge.delay and edge.value in producers and producers[edge.value].name in moved:
                    nodes.extend(_chain(producers[edge.value], edge.delay, producers, deferred, flag, nodes))
            inputs = tuple(
                Edge(e.value) if e.value in producers and producers[e.value].name in moved else e for e in node.inputs
            )
            nodes.append(replace(node, inputs=inputs))
        return graph.with_nodes(tuple(nodes))


def _late(node: Node, graph: TemporalGraph, readers: dict[str, list[tuple[Node, int]]]) -> int | None:
    """The one delay by which everything after `node` is read, or None when it is read at once or variously."""
    delays: set[int] = set()
    pending = [node]
    while pending:
        value = pending.pop().output.name
        if value in graph.outputs:
            return None
        for reader, index in readers[value]:
            delay = reader.inputs[index].delay
            if delay:
                delays.add(delay)
            elif len(reader.inputs) == 1 and len(reader.outputs) == 1:
                pending.append(reader)
            else:
                return None
    return delays.pop() if len(delays) == 1 else None


def _behind(node: Node, readers: dict[str, list[tuple[Node, int]]]) -> set[str]:
    """The norm and the shape-only nodes between it and its late readers."""
    names = {node.name}
    for reader, index in readers[node.output.name]:
        if reader.inputs[index].delay == 0:
            names |= _behind(reader, readers)
    return names


def _chain(
    node: Node, delay: int, producers: dict[str, Node], deferred: dict[str, int], flag: str, placed: list[Node]
) -> list[Node]:
    """The moved nodes up to `node`, in order, reading what was before the norm `delay` steps late."""
    if any(n.name == node.name for n in placed):
        return []
    (edge, *_) = node.inputs
    if node.name in deferred:
        return [replace(node, inputs=(Edge(edge.value, delay), Edge(flag, delay)))]
    return [*_chain(producers[edge.value], delay, producers, deferred, flag, placed), node]
