"""`fold_sums`: for inference, the norms of merged projections become part of their convolutions' weights.

What `fold_bn` does for one convolution and its norm. The sum is then one of convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value
from bcgraph.compiler.ops import attributes
from bcgraph.compiler.ops.merged import stacks_of


@dataclass(frozen=True)
class FoldSums:
    """Fold the norms of each sum whose terms are convolutions that nobody else reads."""

    name: ClassVar[str] = "fold_sums"
    inference_only: ClassVar[bool] = True

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with sums of convolutions in place of sums of norms."""
        producers = graph.producers()
        readers = graph.readers()
        values = graph.values()
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
            weights = _weights(node, values)
            edges = tuple(conv.inputs[0] for conv in convs)
            attrs = attributes(
                stacks=stacks,
                channels=node.attrs["channels"],
                given=tuple(values[edge.value].shape[0] for edge in edges),
            )
            inputs = (*edges, *(Edge(v.name) for v in weights.outputs))
            folded.update((conv.name, ()) for conv in convs)
            folded[node.name] = (weights, replace(node, op="project_sum", inputs=inputs, attributes=attrs))
        if not folded:
            return graph
        nodes = tuple(new for n in graph.nodes for new in folded.get(n.name, (n,)))
        read = {e.value for n in nodes for e in n.inputs}
        return graph.with_nodes(tuple(n for n in nodes if n.op != "stack_parameters" or n.output.name in read))


def _plain(node: Node) -> bool:
    return node.op == "project" and len(node.inputs) == 2


def _weights(node: Node, values: Mapping[str, Value]) -> Node:
    name = f"{node.name}.folded"
    stacks = stacks_of(node)
    terms = [
        Value(f"{name}.weight{index}", values[edge.value].shape[:1])
        for index, (edge, _) in enumerate(zip(node.inputs, stacks, strict=False))
    ]
    bias = Value(f"{name}.bias", (node.attrs["channels"],))
    attrs = attributes(stacks=stacks, channels=node.attrs["channels"], eps=node.attrs["eps"])
    return Node(name, "fold_norms", (), (*terms, bias), attrs, invariant=True, span=node.span)
