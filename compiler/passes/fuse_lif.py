"""`fuse_lif`: charge, fire and reset of a port become one `lif` node with two results, spikes and membrane.

Where the port's current is a sum that nobody else reads, as after a residual or with backward connections,
the node takes the terms of the sum, with their delays, and adds them up itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph
from bcgraph.compiler.ops import attributes


@dataclass(frozen=True)
class FuseLif:
    """Fuse each port. Its `u` must have no reader but its own `fire` and `reset`."""

    name: ClassVar[str] = "fuse_lif"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with one `lif` a port: operands are its currents and, last, the membrane of the step before."""
        readers = graph.readers()
        producers = graph.producers()
        fused: dict[str, Node] = {}
        gone: set[str] = set()
        for fire in graph.nodes:
            if fire.op != "fire" or fire.inputs[0].value in graph.outputs:
                continue
            charge = producers.get(fire.inputs[0].value)
            if charge is None or charge.op != "charge":
                continue
            others = [node for node, _ in readers[charge.output.name] if node is not fire]
            if len(others) != 1 or others[0].op != "reset":
                continue
            (reset,) = others
            if charge.inputs[1] != Edge(reset.output.name, 1) or reset.inputs[1] != Edge(fire.output.name):
                continue
            currents: tuple[Edge, ...] = charge.inputs[:1]
            while (total := _sum_for_one(currents[0], producers, readers, graph)) is not None:
                currents = (*total.inputs, *currents[1:])
                gone.add(total.name)
            fused[fire.name] = replace(_fuse(charge, fire, reset), inputs=(*currents, charge.inputs[1]))
            gone.update((charge.name, reset.name))
        if not fused:
            return graph
        return graph.with_nodes(tuple(fused.get(n.name, n) for n in graph.nodes if n.name not in gone))


def _sum_for_one(
    edge: Edge, producers: dict[str, Node], readers: dict[str, list[tuple[Node, int]]], graph: TemporalGraph
) -> Node | None:
    """The sum after `edge` when this is its only reader, so that its terms can be read in its place."""
    node = producers.get(edge.value)
    if node is None or node.op != "add" or edge.delay or edge.value in graph.outputs:
        return None
    return node if len(readers[edge.value]) == 1 else None


def _fuse(charge: Node, fire: Node, reset: Node) -> Node:
    c, f, r = charge.attrs, fire.attrs, reset.attrs
    return Node(
        name=fire.name.removesuffix(".s"),
        op="lif",
        inputs=charge.inputs,
        outputs=(fire.output, reset.output),
        attributes=attributes(
            tau=c["tau"],
            threshold=f["threshold"],
            surrogate=f["surrogate"],
            mode=r["mode"],
            detach=r["detach"],
        ),
        port=fire.port,
        span=fire.span,
    )
