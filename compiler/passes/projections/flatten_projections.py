"""`flatten_projections`: between two ports of vectors a projection is a product of matrices, and needs no map of 1x1.

A convolution of a 1x1 map takes several times as long as the product that it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value


@dataclass(frozen=True)
class FlattenProjections:
    """Where a vector becomes a 1x1 map, runs through pointwise convolutions and norms alone, and is a vector again."""

    name: ClassVar[str] = "flatten_projections"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph whose projections of vectors stay vectors."""
        values, readers = graph.values(), graph.readers()
        flat: dict[str, Node] = {}
        moved: dict[str, str] = {}
        for node in graph.nodes:
            if node.op != "to_image" or len(values[node.inputs[0].value].shape) != 1:
                continue
            # Connections of one source share the map that is made of it.
            chains = [_chain(reader, readers, graph.outputs) for reader, _ in readers[node.output.name]]
            if node.output.name in graph.outputs or not all(chains):
                continue
            moved[node.output.name] = node.inputs[0].value
            for *inner, end in chains:
                moved[end.output.name] = inner[-1].output.name
                flat.update((each.name, _flat(each)) for each in inner)
        if not moved:
            return graph
        nodes = (flat.get(n.name, n) for n in graph.nodes if not any(v.name in moved for v in n.outputs))
        return graph.with_nodes(tuple(_reading(n, moved) for n in nodes))


def _chain(node: Node, readers: dict[str, list[tuple[Node, int]]], outputs: tuple[str, ...]) -> list[Node]:
    """The nodes from `node` to the one that makes a vector of the map again; nothing where others read on the way."""
    chain: list[Node] = []
    while _stays(node) and len(node.inputs) == 1 and not node.inputs[0].delay:
        chain.append(node)
        value = node.output.name
        if value in outputs or len(readers[value]) != 1:
            return []
        ((node, _),) = readers[value]
    ended = chain and node.op == "to_vector" and not node.inputs[0].delay
    return [*chain, node] if ended else []


def _stays(node: Node) -> bool:
    """Whether `node` is the same on a vector as on a 1x1 map."""
    if node.op == "conv":
        layer = node.attrs["layer"]
        return bool(layer.pointwise) and layer.groups == 1
    return node.op == "bn"


def _flat(node: Node) -> Node:
    made = Value(node.output.name, node.output.shape[:1])
    return replace(node, op="pointwise" if node.op == "conv" else node.op, outputs=(made,))


def _reading(node: Node, moved: dict[str, str]) -> Node:
    if not any(e.value in moved for e in node.inputs):
        return node
    return replace(node, inputs=tuple(Edge(moved.get(e.value, e.value), e.delay) for e in node.inputs))
