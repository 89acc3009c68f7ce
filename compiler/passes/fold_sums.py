"""`fold_sums`: for inference, the norms of merged projections become part of their convolutions' weights.

What `fold_bn` does for one convolution and its norm. The sum is then one of convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value
from bcgraph.compiler.ops import attributes
from bcgraph.compiler.ops.merged import Stack, stacks_of


@dataclass(frozen=True)
class FoldSums:
    """Fold the norms of each sum whose terms are convolutions that nobody else reads."""

    name: ClassVar[str] = "fold_sums"
    inference_only: ClassVar[bool] = True

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with sums of convolutions in the place of sums of norms."""
        producers = graph.producers()
        readers = graph.readers()
        folded: dict[str, tuple[Node, ...]] = {}
        for node in graph.nodes:
            if node.op != "norm_sum":
                continue
            stacks = stacks_of(node)
            terms = [producers.get(e.value) for e in node.inputs[: len(stacks)]]
            convs = [n for n in terms if n is not None and _plain(n) and len(readers[n.output.name]) == 1]
            # A third operand after the terms says which samples exist, and is no part of a weight.
            if len(convs) < len(stacks) or len(node.inputs) > len(stacks) + 2:
                continue
            for conv, stack in zip(convs, stacks, strict=True):
                weights = _weights(conv, stack, node.attrs["eps"])
                edges = (conv.inputs[0], *(Edge(v.name) for v in weights.outputs))
                folded[conv.name] = (weights, replace(conv, op="conv", inputs=edges))
            kept = {k: v for k, v in node.attributes if k not in ("eps", "label")}
            folded[node.name] = (
                replace(node, op="stack_sum", inputs=node.inputs[: len(stacks)], attributes=attributes(**kept)),
            )
        if not folded:
            return graph
        nodes = tuple(new for n in graph.nodes for new in folded.get(n.name, (n,)))
        read = {e.value for n in nodes for e in n.inputs}
        return graph.with_nodes(tuple(n for n in nodes if n.op != "stack_parameters" or n.output.name in read))


def _plain(node: Node) -> bool:
    return node.op == "project" and len(node.inputs) == 2


def _weights(conv: Node, stack: Stack, eps: float) -> Node:
    channels = conv.output.shape[0]
    name = f"{conv.name}.folded"
    outputs = (Value(f"{name}.weight", (channels,)), Value(f"{name}.bias", (channels,)))
    names = attributes(convs=tuple(p.conv for p in stack), norms=tuple(p.norm for p in stack), eps=eps)
    return Node(name, "fold_norms", (), outputs, names, invariant=True, span=conv.span)
