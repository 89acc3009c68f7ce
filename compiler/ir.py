"""The temporal graph: the network of one time step, whose edges carry an integer delay.

An edge of delay 0 is a wire; an edge of delay d >= 1 reads what its value was d steps ago, and zero before step d.
A backward connection is nothing but an edge with a delay. A `Program` is what a schedule makes of the graph: nodes
in the order they run, all delays resolved. Values are immutable, so that a pass maps a graph to another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import bcgraph
from bcgraph import notebook
from bcgraph.errors import Span
from bcgraph.shapes import Shape

Attribute: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Value:
    """What a node computes: a name, the shape of one sample, and how many steps it holds.

    `steps` is 0 for the value of one step, `[N, *shape]`, and T for all steps at once, `[T*N, *shape]`.
    """

    name: str
    shape: Shape
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Edge:
    """A read of a value, `delay` steps after it was computed."""

    value: str
    delay: int = 0

    def __str__(self) -> str:
        return f"%{self.value}" + (f"@-{self.delay}" if self.delay else "")


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `op` is a key of `ops.OPS`.

    `module` names the owner of its parameters in the state dict; `port` is the number of the layer of neurons that the
    node is a part of; `step` is set by a schedule; `invariant` says that all steps compute the same value. `span` is
    the place in the text, and takes no part in equality.
    """

    name: str
    op: str
    inputs: tuple[Edge, ...]
    outputs: tuple[Value, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()
    module: str | None = None
    port: int | None = None
    step: int | None = None
    invariant: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def attrs(self) -> Mapping[str, Attribute]:
        """The attributes by name."""
        return MappingProxyType(dict(self.attributes))

    @property
    def output(self) -> Value:
        """The only output. Raises ValueError when there are several."""
        (value,) = self.outputs
        return value

    def with_attrs(self, **changes: Attribute) -> Node:
        """The same node with attributes added or replaced, in sorted order."""
        return replace(self, attributes=tuple(sorted({**dict(self.attributes), **changes}.items())))


@dataclass(frozen=True, slots=True, repr=False)
class TemporalGraph:
    """The network of one step.

    `nodes` are in topological order of their edges of delay 0. `inputs` are fed at each step (`sequence`) or stay the
    same (a static image); `outputs` are read at each step.
    """

    name: str
    steps: int
    sequence: bool
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    ports: tuple[str, ...]

    def __repr__(self) -> str:
        """A summary; `bcgraph.compiler.graph_text` has every node."""
        feed = "sequence" if self.sequence else "image"
        delayed = sum(edge.delay > 0 for edge in self.edges())
        return (
            f"<TemporalGraph {self.name}: {feed}, T = {self.steps}, {len(self.ports)} ports, {_census(self.nodes)}, "
            f"{delayed} delayed edge{'s' * (delayed != 1)}>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, which unfolds to the text."""
        return notebook.text(repr(self)[1:-1], bcgraph.compiler.graph_text(self))

    def values(self) -> dict[str, Value]:
        """Every value by name."""
        found = {v.name: v for v in self.inputs}
        found.update((v.name, v) for n in self.nodes for v in n.outputs)
        return found

    def producers(self) -> dict[str, Node]:
        """For each value that a node computes, the node."""
        return {v.name: n for n in self.nodes for v in n.outputs}

    def readers(self) -> dict[str, list[tuple[Node, int]]]:
        """For each value, the nodes that read it, with the index of the input."""
        found: dict[str, list[tuple[Node, int]]] = {name: [] for name in self.values()}
        for node in self.nodes:
            for index, edge in enumerate(node.inputs):
                found[edge.value].append((node, index))
        return found

    def delayed(self) -> dict[str, int]:
        """Each value that is read late, with its longest delay, in the order of the nodes."""
        longest: dict[str, int] = {}
        for edge in self.edges():
            if edge.delay:
                longest[edge.value] = max(edge.delay, longest.get(edge.value, 0))
        order = {name: i for i, name in enumerate(self.values())}
        return dict(sorted(longest.items(), key=lambda item: order[item[0]]))

    def edges(self) -> Iterator[Edge]:
        """Every edge, in the order of the nodes."""
        for node in self.nodes:
            yield from node.inputs

    def with_nodes(self, nodes: tuple[Node, ...]) -> TemporalGraph:
        """The same graph with other nodes."""
        return replace(self, nodes=nodes)


@dataclass(frozen=True, slots=True)
class State:
    """What a step hands to the next: `input` is read, `output` is its next value. It starts at zero.

    `shape` is that of one sample, without the batch axis; () is one number a sample.
    """

    input: str
    output: str
    shape: Shape
    meaning: str


@dataclass(frozen=True, slots=True, repr=False)
class Program:
    """A scheduled graph: nodes in the order they run, with no delay left on any edge.

    The first output is O; for the `step` schedule the next states follow in the order of `states`, which is also the
    order of the state inputs after the frame.
    """

    name: str
    schedule: str
    steps: int
    sequence: bool
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    states: tuple[State, ...]
    ports: tuple[str, ...]

    def __repr__(self) -> str:
        """A summary; `bcgraph.compiler.program_text` has every node."""
        states = f", {len(self.states)} states" if self.states else ""
        return f"<Program {self.name}: {self.schedule}, T = {self.steps}, {_census(self.nodes)}{states}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, which unfolds to the text."""
        return notebook.text(repr(self)[1:-1], bcgraph.compiler.program_text(self))

    def values(self) -> dict[str, Value]:
        """Every value by name."""
        found = {v.name: v for v in self.inputs}
        found.update((v.name, v) for n in self.nodes for v in n.outputs)
        return found


def _census(nodes: Collection[Node]) -> str:
    """How many nodes there are of each operation, the most frequent first."""
    counts = Counter(node.op for node in nodes)
    return f"{len(nodes)} nodes ({', '.join(f'{n} {op}' for op, n in counts.most_common())})"


def at_step(name: str, step: int) -> str:
    """The name of a value at one step of a schedule, `layer1.0.lif1.s@t3`."""
    return f"{name}@t{step}"


def before(name: str, delay: int) -> str:
    """The name of the state that holds a value of `delay` steps ago, `layer1.0.lif1.v@-1`."""
    return f"{name}@-{delay}"


def free(name: str, taken: Collection[str]) -> str:
    """`name`, or the first of `name_`, `name__`, ... that is not taken by a layer of the user's."""
    while name in taken:
        name += "_"
    return name
