"""Schedule `step`: the graph itself, with each delay as states that go in and come out.

A value read d steps late needs d states, the newest first. All start at zero, and zero in every state of a sample
is the beginning of its time.
"""

from __future__ import annotations

from dataclasses import replace

from bcgraph.compiler.ir import Edge, Program, State, TemporalGraph, Value, before
from bcgraph.compiler.schedules.step_count import counted
from bcgraph.errors import CompileError
from bcgraph.names import parse_projection

MAX_STATES = 5_000
"""States of one step: each is an input and an output, and a tensor of its own."""


def step(graph: TemporalGraph) -> Program:
    """One step of `graph`: `(x_t, *states) -> (O_t, *states)`.

    The norms of connections must be deferred (pass `defer_norm`), or they would see T updates. Raises CompileError
    (E054) when the delays ask for more than `MAX_STATES` states.
    """
    graph = counted(graph)
    values = graph.values()
    counts = {n.output.name for n in graph.nodes if n.op == "count"}
    flags = {n.output.name for n in graph.nodes if n.op == "one"}
    states: list[State] = []
    needed = sum(graph.delayed().values())
    if needed > MAX_STATES:
        raise CompileError(
            "E054",
            f"one step would carry {needed:,} states, at most {MAX_STATES:,} can be",
            hint="a value that is read d steps later needs d states; shorter delays need fewer",
        )
    for name, longest in graph.delayed().items():
        for delay in range(1, longest + 1):
            newer = before(name, delay - 1) if delay > 1 else name
            meaning = f"{_meaning(name, flags, counts)}, {delay} step{'s' if delay > 1 else ''} ago"
            states.append(State(before(name, delay), newer, values[name].shape, meaning))
    nodes = tuple(
        replace(n, inputs=tuple(Edge(before(e.value, e.delay)) if e.delay else e for e in n.inputs))
        for n in graph.nodes
    )
    inputs = (*graph.inputs, *(Value(s.input, s.shape) for s in states))
    outputs = (*graph.outputs, *(s.output for s in states))
    return Program(graph.name, "step", graph.steps, graph.sequence, inputs, nodes, outputs, tuple(states), graph.ports)


def _meaning(name: str, flags: set[str], counts: set[str]) -> str:
    if name in counts:
        return "number of steps so far"
    if name in flags:
        return "1 when the step existed, else 0"
    if (found := parse_projection(name)) is not None:
        return f"projection of {found.word} connection {found.source} -> {found.target}"
    owner, _, part = name.rpartition(".")
    if part == "v":
        return f"membrane of {owner}"
    if part == "s":
        return f"spikes of {owner}"
    return f"value of {name}"
