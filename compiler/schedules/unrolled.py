"""Schedule `unrolled`: every step written out, delays resolved to the node of an earlier step.

Nodes run step by step in the order of the graph, which is also the order in which running statistics are updated. What
no output needs is left out: a projection of the last d steps is never evaluated. What is zero because its step
does not exist is never built: a sum drops the operand, the first charge is the current itself.
"""

from __future__ import annotations

from dataclasses import replace

from bcgraph.compiler.ir import Edge, Node, Program, TemporalGraph, Value, at_step, free
from bcgraph.compiler.needed import needed, needed_at, needed_steps
from bcgraph.compiler.schedules.placement import Where, frame, once, place, zeros_like


def unrolled(graph: TemporalGraph) -> Program:
    """All steps of `graph` in one program. The output is O of all steps, `[T, N, classes]`."""
    wanted = needed(graph)
    values = graph.values()
    nodes: list[Node] = []
    where: Where = {}

    for value in graph.inputs:
        for t in range(graph.steps):
            where[value.name, t] = at_step(value.name, t) if graph.sequence else value.name
            if graph.sequence:
                nodes.append(frame(value, t))
    placed: set[str] = set()
    for t in range(graph.steps):
        for node in graph.nodes:
            if node.name in placed or not needed_at(node, t, wanted):
                continue
            if node.invariant:
                nodes.append(once(node, needed_steps(node, graph.steps, wanted), graph.steps, where))
                placed.add(node.name)
            else:
                nodes.extend(place(node, t, where, values, wanted))
    outputs: list[str] = []
    for name in graph.outputs:
        reads: list[Edge] = []
        for t in range(graph.steps):
            held = where[name, t]
            if held is None:
                nodes.append(zeros_like(f"{name}.zero", values[name], t))
                held = nodes[-1].name
            reads.append(Edge(held))
        out = Value(free("O" if len(graph.outputs) == 1 else f"O.{name}", values), values[name].shape, graph.steps)
        nodes.append(Node(out.name, "stack", tuple(reads), (out,)))
        outputs.append(out.name)
    inputs = tuple(replace(v, steps=graph.steps) if graph.sequence else v for v in graph.inputs)
    return Program(
        name=graph.name,
        schedule="unrolled",
        steps=graph.steps,
        sequence=graph.sequence,
        inputs=inputs,
        nodes=tuple(nodes),
        outputs=tuple(outputs),
        states=(),
        ports=graph.ports,
    )
