"""`hoist`: what a static image alone decides is the same at every step, and is computed once.

The pass marks such nodes; a schedule places a marked node once. Its batch norm then takes the statistics of
all steps in one update, which the closed form of a repeated exponential average makes equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Node, TemporalGraph
from bcgraph.compiler.ops import Trait, has
from bcgraph.compiler.ops.layers import by_step


@dataclass(frozen=True)
class Hoist:
    """Mark every node that only time-invariant values reach. Dropout and per-step statistics are not steady."""

    name: ClassVar[str] = "hoist"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with invariant nodes marked. A sequence has none."""
        if graph.sequence:
            return graph
        steady = {v.name for v in graph.inputs}
        nodes: list[Node] = []
        for node in graph.nodes:
            if _may(node) and all(e.delay == 0 and e.value in steady for e in node.inputs):
                steady.update(v.name for v in node.outputs)
                node = replace(node, invariant=True)
            nodes.append(node)
        after = graph.with_nodes(tuple(nodes))
        return graph if after == graph else after


def _may(node: Node) -> bool:
    if by_step(node):
        return False
    return has(node, Trait.STEADY)
