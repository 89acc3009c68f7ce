"""The verifier: what must hold of every temporal graph, before and after each pass.

Names are unique, every edge reads a value that exists, each value has the shape its operation computes, no cycle has
delay zero, the nodes are in topological order, and every port can be reached from the input.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from bcgraph import shapes
from bcgraph.compiler.ir import Node, TemporalGraph, Value
from bcgraph.compiler.ops import OPS, Trait, has
from bcgraph.errors import CompileError


def verify(graph: TemporalGraph) -> None:
    """Check `graph`.

    Raises CompileError for what a description can cause (E070 a cycle of delay 0, E071 an unreachable port), and
    AssertionError for what only a faulty pass can.
    """
    values = _values(graph)
    for node in graph.nodes:
        _check_node(node, values)
    # What is read at once stands earlier, so there can be no cycle: it is looked for only where the order is wrong.
    early = _read_too_early(graph)
    cycle = zero_delay_cycle(graph) if early else []
    if cycle:
        first = graph.producers()[cycle[0]]
        raise CompileError(
            "E070",
            f"a cycle of delay 0: {' -> '.join([*cycle, cycle[0]])}",
            span=first.span,
            hint="a connection that runs backward needs a delay of at least 1",
        )
    assert not early, early
    _check_reachable(graph)
    for name in graph.outputs:
        assert name in values, f"output {name} does not exist"


def zero_delay_cycle(graph: TemporalGraph) -> list[str]:
    """The values of one cycle whose edges all have delay 0, in the order of the data; empty when there is none."""
    producers = graph.producers()
    reads = {
        value: [e.value for e in node.inputs if e.delay == 0 and e.value in producers]
        for value, node in producers.items()
    }
    try:
        TopologicalSorter(reads).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle[:-1]
    return []


def _values(graph: TemporalGraph) -> dict[str, Value]:
    values: dict[str, Value] = {}
    names: set[str] = set()
    for value in graph.inputs:
        assert value.name not in values, f"value {value.name} is defined twice"
        values[value.name] = value
    for node in graph.nodes:
        assert node.name not in names, f"node {node.name} is defined twice"
        names.add(node.name)
        for value in node.outputs:
            assert value.name not in values, f"value {value.name} is defined twice"
            values[value.name] = value
    return values


def _check_node(node: Node, values: dict[str, Value]) -> None:
    assert node.op in OPS, f"{node.name}: unknown operation {node.op}"
    op = OPS[node.op]
    assert op.least <= len(node.inputs), f"{node.name}: too few operands"
    assert op.most is None or len(node.inputs) <= op.most, f"{node.name}: too many operands"
    for edge in node.inputs:
        assert edge.value in values, f"{node.name} reads {edge.value}, which does not exist"
        assert edge.delay >= 0, f"{node.name} reads the future of {edge.value}"
    if not node.inputs:
        return
    given = [values[e.value].shape for e in node.inputs]
    computed = op.infer(node, given)
    declared = tuple(v.shape for v in node.outputs)
    assert computed == declared, (
        f"{node.name}: declared {' '.join(map(shapes.text, declared))}, computes {' '.join(map(shapes.text, computed))}"
    )


def _read_too_early(graph: TemporalGraph) -> str:
    """Which node stands before a value that it reads at once; empty where the nodes are in topological order."""
    known = {v.name for v in graph.inputs}
    for node in graph.nodes:
        for edge in node.inputs:
            if not edge.delay and edge.value not in known:
                return f"{node.name} stands before {edge.value}, which it reads"
        known.update(v.name for v in node.outputs)
    return ""


def _check_reachable(graph: TemporalGraph) -> None:
    reached = {v.name for v in graph.inputs}
    for node in graph.nodes:
        if any(e.delay == 0 and e.value in reached for e in node.inputs):
            reached.update(v.name for v in node.outputs)
    for node in graph.nodes:
        if has(node, Trait.FIRES) and node.outputs[0].name not in reached:
            assert node.port is not None
            raise CompileError(
                "E071",
                f"port @{node.port} `{graph.ports[node.port]}` cannot be reached from the input",
                span=node.span,
            )
