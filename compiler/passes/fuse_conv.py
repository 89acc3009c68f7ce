"""`fuse_conv`: for inference, a convolution whose result only a neuron reads becomes part of the neuron.

Its result, the current, is as large as the spikes; fused, the neuron takes it some samples at a time while it is
still in the cache. Runs after `fold_bn`, `fuse_neuron` and, so as not to draw a hoisted stem into the steps, `hoist`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph
from bcgraph.compiler.ops import operations
from bcgraph.compiler.ops.neuron import states_of


@dataclass(frozen=True)
class FuseConv:
    """Fuse into each `neuron` the largest of the convolutions with folded norms among its currents."""

    name: ClassVar[str] = "fuse_conv"
    inference_only: ClassVar[bool] = True

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with `conv_neuron` nodes: operands are x, weight and bias, the other currents and the membrane."""
        readers = graph.readers()
        producers = graph.producers()
        values = graph.values()
        gone: set[str] = set()
        fused: dict[str, Node] = {}
        for node in graph.nodes:
            if node.op != "neuron":
                continue
            found = [
                producers[e.value]
                for e in node.inputs[: len(node.inputs) - len(states_of(node))]
                if _may(e, producers.get(e.value), graph) and len(readers[e.value]) == 1
            ]
            if found:
                conv = max(found, key=lambda c: operations(c, values[c.inputs[0].value].shape))
                gone.add(conv.name)
                rest = tuple(e for e in node.inputs if e.value != conv.output.name)
                both = replace(node, op="conv_neuron", inputs=(*conv.inputs, *rest))
                fused[node.name] = both.with_attrs(layer=conv.attrs["layer"], neuron=node.attrs["layer"])
        if not fused:
            return graph
        return graph.with_nodes(tuple(fused.get(n.name, n) for n in graph.nodes if n.name not in gone))


def _may(edge: Edge, conv: Node | None, graph: TemporalGraph) -> bool:
    """Whether the current is computed in the same step by a convolution with its weights as operands."""
    return (
        conv is not None
        and conv.op == "conv"
        and len(conv.inputs) == 3
        and not conv.invariant
        and edge.delay == 0
        and edge.value not in graph.outputs
    )
