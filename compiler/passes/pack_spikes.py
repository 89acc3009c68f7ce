"""`pack_spikes`: for training, convolutions that read spikes keep their bits for the backward pass, not
their floats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value
from bcgraph.compiler.ops import Trait, has


@dataclass(frozen=True)
class PackSpikes:
    """Give each convolution of a spike tensor one more operand: the tensor's bits, packed once for all of them."""

    name: ClassVar[str] = "pack_spikes"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with a `pack` node after each spike tensor that a convolution reads."""
        binary: set[str] = set()
        packed: dict[str, str] = {}
        nodes: list[Node] = []
        changed = False
        for node in graph.nodes:
            reads = node.inputs
            if has(node, Trait.BINARY):
                binary.add(node.outputs[0].name)
            elif has(node, Trait.KEEPS_SPIKES) and all(e.delay == 0 and e.value in binary for e in reads):
                binary.add(node.output.name)
            elif (
                len(reads) == {"conv": 1, "project": 2}.get(node.op)
                and reads[0].delay == 0
                and reads[0].value in binary
            ):
                source = reads[0].value
                if source not in packed:
                    packed[source] = f"{source}.bits"
                    shape = graph.values()[source].shape
                    span = graph.producers()[source].span
                    nodes.append(Node(packed[source], "pack", reads[:1], (Value(packed[source], shape),), span=span))
                node = replace(node, inputs=(*reads, Edge(packed[source])))
                changed = True
            nodes.append(node)
        return graph.with_nodes(tuple(nodes)) if changed else graph
