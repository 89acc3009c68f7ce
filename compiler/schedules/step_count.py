"""The number of the step as a state: by it a program of one step tells steps apart.

A norm with statistics or a scale for each step (`tebn`) reads how many steps a sample has had: 0 in its first step. The
number is a state like any other, and zero at the beginning. It stops at T, so that from step T on a norm is what it is
in the last step: T is what such a network was trained for, and a stream may be longer.
"""

from __future__ import annotations

from dataclasses import replace

from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value, free
from bcgraph.compiler.ops.layers import by_step


def counted(graph: TemporalGraph) -> TemporalGraph:
    """The graph in which every node that tells steps apart reads the number of its step, as its last operand.

    A norm that is deferred (pass `defer_norm`) reads the number of the step whose value it normalizes.
    """
    if not any(map(by_step, graph.nodes)):
        return graph
    name = free("count", {*graph.values(), *(node.name for node in graph.nodes)})
    count = Node(name, "count", (Edge(name, 1),), (Value(name, ()),), (("steps", graph.steps),))

    def read(node: Node) -> Node:
        if not by_step(node):
            return node
        delay = max((edge.delay for edge in node.inputs[1:]), default=0)
        return replace(node.with_attrs(counted=True), inputs=(*node.inputs, Edge(name, delay + 1)))

    return graph.with_nodes((count, *map(read, graph.nodes)))
