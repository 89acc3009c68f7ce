"""`sink_resize`: project and normalize a backward connection at its source's resolution, then resize.

A nearest neighbor enlargement by a whole ratio repeats each value equally often, so a 1x1 convolution and the batch
statistics after it see the same values either way; from the last stage of a ResNet to the first that is 64 times
less work. Only the unbiased running variance counts how many values there were, which the norm is told (`repeats`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph import shapes
from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value


@dataclass(frozen=True)
class SinkResize:
    """Move each `resize` that enlarges by a whole ratio after the pointwise convolution and the norm it feeds."""

    name: ClassVar[str] = "sink_resize"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with cheaper projections."""
        values = graph.values()
        readers = graph.readers()
        nodes: dict[str, tuple[Node, ...]] = {n.name: (n,) for n in graph.nodes}
        changed = False
        for resize in graph.nodes:
            if resize.op != "resize":
                continue
            given, wanted = shapes.spatial(values[resize.inputs[0].value].shape), resize.attrs["size"]
            if wanted[0] % given[0] or wanted[1] % given[1]:
                continue
            chain = _chain(resize, readers, graph.outputs)
            if chain:
                nodes.update(_sunk(resize, chain, given, (wanted[0] // given[0]) * (wanted[1] // given[1])))
                changed = True
        if not changed:
            return graph
        return graph.with_nodes(tuple(moved for n in graph.nodes for moved in nodes[n.name]))


def _chain(resize: Node, readers: dict[str, list[tuple[Node, int]]], outputs: tuple[str, ...]) -> list[Node]:
    """The pointwise convolution and the norm that alone read `resize`, or nothing."""
    chain: list[Node] = []
    value = resize.output.name
    for op in ("conv", "bn"):
        if value in outputs or len(readers[value]) != 1:
            break
        (reader, index) = readers[value][0]
        if reader.op != op or index != 0 or reader.inputs[0].delay or not _pointwise(reader):
            break
        chain.append(reader)
        value = reader.output.name
    return chain


def _pointwise(node: Node) -> bool:
    layer = node.attrs["layer"]
    if node.op == "bn":
        return not layer.norm.by_step
    return bool(layer.pointwise)


def _sunk(resize: Node, chain: list[Node], size: tuple[int, int], ratio: int) -> dict[str, tuple[Node, ...]]:
    """The nodes by the place they take: all stand where the last of the chain stood, after whatever they read.

    The resize comes last and takes the name of the last value, so that its readers, with their delays, need no change.
    """
    last = chain[-1]
    moved: list[Node] = []
    read = resize.inputs[0]
    for node in chain:
        name = node.name if node is not last else f"{node.name}.small"
        out = Value(name, (node.output.shape[0], *size))
        node = replace(node, name=name, inputs=(read, *node.inputs[1:]), outputs=(out,))
        moved.append(node.with_attrs(repeats=ratio) if node.op == "bn" else node)
        read = Edge(out.name)
    end = replace(resize, name=last.name, inputs=(read,), outputs=last.outputs)
    gone: dict[str, tuple[Node, ...]] = {node.name: () for node in (resize, *chain)}
    return gone | {last.name: (*moved, end)}
