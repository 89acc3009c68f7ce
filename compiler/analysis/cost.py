"""What a temporal graph costs to run: nodes, and multiply-accumulates of all steps of one sample."""

from __future__ import annotations

from dataclasses import dataclass

from bcgraph.compiler.ir import TemporalGraph
from bcgraph.compiler.ops import operations


@dataclass(frozen=True, slots=True)
class Cost:
    """`nodes` of the graph, and `operations`: multiply-accumulates of one sample over all steps.

    A time-invariant node counts once, all others once a step, also where the last steps are not needed.
    """

    nodes: int
    operations: int


def cost(graph: TemporalGraph) -> Cost:
    """The cost of `graph`."""
    values = graph.values()
    total = 0
    for node in graph.nodes:
        if node.inputs:
            one = operations(node, values[node.inputs[0].value].shape)
            total += one * (1 if node.invariant else graph.steps)
    return Cost(len(graph.nodes), total)
