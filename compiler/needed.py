"""Which values of which steps the outputs of a network depend on."""

from __future__ import annotations

from bcgraph.compiler.ir import Node, TemporalGraph


def needed(graph: TemporalGraph) -> frozenset[tuple[str, int]]:
    """Every value and step that the outputs of all steps depend on."""
    producers = graph.producers()
    pending = [(name, t) for name in graph.outputs for t in range(graph.steps)]
    found = set(pending)
    while pending:
        name, t = pending.pop()
        for edge in producers[name].inputs if name in producers else ():
            read = (edge.value, t - edge.delay)
            if read[1] >= 0 and read not in found:
                found.add(read)
                pending.append(read)
    return frozenset(found)


def needed_at(node: Node, t: int, wanted: frozenset[tuple[str, int]]) -> bool:
    """Whether anything that `node` computes at step t is needed."""
    return any((v.name, t) in wanted for v in node.outputs)


def needed_steps(node: Node, steps: int, wanted: frozenset[tuple[str, int]]) -> tuple[int, ...]:
    """The steps at which `node` is needed."""
    return tuple(t for t in range(steps) if needed_at(node, t, wanted))
