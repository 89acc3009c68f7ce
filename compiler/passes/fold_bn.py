"""`fold_bn`: for inference, a batch norm after a convolution becomes part of the convolution's weights.

The weights are folded inside the graph, by a node that no step depends on, so that the module keeps the
state dict of all others and new weights take effect at once. It costs one pass over the weights a call,
against one over every activation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value
from bcgraph.compiler.ops import attributes


@dataclass(frozen=True)
class FoldBn:
    """Fold each norm whose only operand is a convolution that nobody else reads.

    Norms with statistics or a scale of their own for each step are left as they are: weights would differ by step.
    """

    name: ClassVar[str] = "fold_bn"
    inference_only: ClassVar[bool] = True

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph without the norms that could be folded."""
        readers = graph.readers()
        producers = graph.producers()
        nodes: list[Node] = []
        gone: set[str] = set()
        for norm in graph.nodes:
            conv = producers.get(norm.inputs[0].value) if norm.inputs else None
            if conv is None or not _folds(norm, conv) or len(readers[conv.output.name]) != 1:
                nodes.append(norm)
                continue
            gone.add(conv.name)
            weights = _weights(conv, norm)
            edges = (conv.inputs[0], *(Edge(v.name) for v in weights.outputs))
            nodes.append(weights)
            nodes.append(replace(conv, name=norm.name, inputs=edges, outputs=norm.outputs, module=None))
        if not gone:
            return graph
        return graph.with_nodes(tuple(n for n in nodes if n.name not in gone))


def _folds(norm: Node, conv: Node) -> bool:
    return (
        norm.op == "bn"
        and len(norm.inputs) == 1
        and norm.inputs[0].delay == 0
        and conv.op in ("conv", "pointwise")
        and len(conv.inputs) == 1
        and not norm.attrs["layer"].norm.by_step
    )


def _weights(conv: Node, norm: Node) -> Node:
    channels = norm.output.shape[0]
    name = f"{norm.name}.folded"
    outputs = (Value(f"{name}.weight", (channels,)), Value(f"{name}.bias", (channels,)))
    layers = attributes(
        conv=conv.module, norm=norm.module, bias=conv.attrs["layer"].bias, eps=norm.attrs["layer"].norm.eps
    )
    return Node(name, "fold_norm", (), outputs, layers, invariant=True, span=norm.span)
