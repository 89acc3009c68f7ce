"""`fuse_neuron`: the equations of a port become one `neuron` node, whose results are the spikes and the states.

Where the port's current is a sum that nobody else reads, as after a residual or with backward connections,
the node takes the terms of the sum, with their delays, and adds them up itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph
from bcgraph.compiler.ops import attributes
from bcgraph.equations.neuron import CURRENT, SPIKES, Equations


@dataclass(frozen=True)
class FuseNeuron:
    """Fuse each port: what is read outside of its equations, now or later, is a result."""

    name: ClassVar[str] = "fuse_neuron"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with one `neuron` a port: operands are its currents and, last, the states of the step before."""
        readers = graph.readers()
        producers = graph.producers()
        ports: dict[int, list[Node]] = {}
        for node in graph.nodes:
            if node.op == "equation":
                assert node.port is not None
                ports.setdefault(node.port, []).append(node)
        fused: dict[str, Node] = {}
        gone: set[str] = set()
        for nodes in ports.values():
            current = _current(nodes)
            if current is None:
                continue
            terms: tuple[Edge, ...] = (current,)
            while (total := _sum_for_one(terms[0], nodes, producers, readers, graph)) is not None:
                terms = (*total.inputs, *terms[1:])
                gone.add(total.name)
            fused[nodes[0].name] = _fuse(nodes, terms, graph, readers)
            gone.update(node.name for node in nodes)
        if not fused:
            return graph
        return graph.with_nodes(
            tuple(fused.get(n.name, n) for n in graph.nodes if n.name in fused or n.name not in gone)
        )


def _current(nodes: Sequence[Node]) -> Edge | None:
    """The edge that carries the current of a port; None where no equation reads it."""
    found = {
        edge for node in nodes for key, edge in zip(node.attrs["reads"], node.inputs, strict=True) if key == CURRENT
    }
    return found.pop() if len(found) == 1 else None


def _sum_for_one(
    edge: Edge,
    nodes: Sequence[Node],
    producers: dict[str, Node],
    readers: dict[str, list[tuple[Node, int]]],
    graph: TemporalGraph,
) -> Node | None:
    """The sum after `edge` when only this port reads it, so that its terms can be read in its place."""
    node = producers.get(edge.value)
    if node is None or node.op != "add" or edge.delay or edge.value in graph.outputs:
        return None
    mine = {each.name for each in nodes}
    outside = [reader for reader, _ in readers[edge.value] if reader.name not in mine]
    alone = len(outside) <= (0 if any(edge in each.inputs for each in nodes) else 1)
    return node if alone else None


def _fuse(
    nodes: Sequence[Node], currents: tuple[Edge, ...], graph: TemporalGraph, readers: dict[str, list[tuple[Node, int]]]
) -> Node:
    names = {node.output.name: node.attrs["gives"] for node in nodes}
    first = next(node for node in nodes if node.attrs["gives"] == SPIKES)
    layer = first.attrs["layer"]
    own = {node.name for node in nodes}
    # In the order of their equations, so that a step has the same states in the same order with and without this pass.
    late = {edge.value for node in nodes for edge in node.inputs if edge.delay}
    states = tuple(given for value, given in names.items() if value in late)
    outside = [
        given
        for value, given in names.items()
        if given not in (SPIKES, *states)
        and (value in graph.outputs or any(reader.name not in own for reader, _ in readers[value]))
    ]
    made = layer.neuron.equations
    equations = Equations(
        tuple((node.attrs["gives"], node.attrs["expression"]) for node in nodes),
        states,
        made.learned,
        made.uniform,
        (SPIKES, *states, *outside),
    ).giving((SPIKES, *states, *outside))
    values = {given: value for value, given in names.items()}
    outputs = {node.attrs["gives"]: node.output for node in nodes}
    before = tuple(Edge(values[name], 1) for name in equations.states)
    return Node(
        name=layer.name,
        op="neuron",
        inputs=(*currents, *before),
        outputs=tuple(outputs[name] for name in equations.gives),
        attributes=attributes(equations=equations, layer=layer),
        module=layer.name if equations.learned else None,
        port=first.port,
        span=first.span,
    )
