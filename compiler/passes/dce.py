"""`dce`: nodes that no output depends on are left out, and nodes that compute the same are made one.

Which steps of a node are needed is for a schedule to say: a projection of the last steps is never placed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph
from bcgraph.compiler.ops import Trait, has


@dataclass(frozen=True)
class Dce:
    """Remove what nobody reads, now or later, and merge pure nodes with equal operands."""

    name: ClassVar[str] = "dce"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with only the nodes that an output reads, each computed once."""
        merged = _merge(graph)
        producers = merged.producers()
        live: set[str] = set()
        pending = [name for name in merged.outputs if name in producers]
        while pending:
            node = producers[pending.pop()]
            if node.name in live:
                continue
            live.add(node.name)
            pending.extend(e.value for e in node.inputs if e.value in producers)
        if len(live) == len(graph.nodes):
            return graph
        return merged.with_nodes(tuple(n for n in merged.nodes if n.name in live))


def _merge(graph: TemporalGraph) -> TemporalGraph:
    seen: dict[Any, str] = {}
    same: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(Edge(same.get(e.value, e.value), e.delay) for e in node.inputs)
        node = node if inputs == node.inputs else replace(node, inputs=inputs)
        if has(node, Trait.PURE) and node.output.name not in graph.outputs:
            key = (node.op, inputs, _without_name(node))
            if key in seen:
                same[node.output.name] = seen[key]
                continue
            seen[key] = node.output.name
        nodes.append(node)
    if not same:
        return graph
    # A delayed edge may read a value that was merged after its reader was passed.
    return graph.with_nodes(
        tuple(replace(n, inputs=tuple(Edge(same.get(e.value, e.value), e.delay) for e in n.inputs)) for n in nodes)
    )


def _without_name(node: Node) -> Any:
    return tuple((k, replace(v, name="", span=None) if k == "layer" else v) for k, v in node.attributes)
