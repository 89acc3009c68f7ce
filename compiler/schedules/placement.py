"""What schedules share: which value of which step is needed, and how one node of one step is placed."""

from __future__ import annotations

from dataclasses import replace

from bcgraph.compiler.ir import Edge, Node, Value, at_step
from bcgraph.compiler.ops import OPS, Trait, attributes, has
from bcgraph.compiler.ops.neuron import equations_of, narrowed

# For each value and step, the name that holds it in the program; None where it is zero.
Where = dict[tuple[str, int], str | None]


def frame(value: Value, step: int) -> Node:
    """The node that takes one step out of a sequence input."""
    name = at_step(value.name, step)
    return Node(name, "frame", (Edge(value.name),), (Value(name, value.shape),), attributes(step=step), step=step)


def once(node: Node, steps: tuple[int, ...], all_steps: int, where: Where) -> Node:
    """A time-invariant node, placed once for all `steps` that need it; a norm is told how many they are."""
    reads = tuple(Edge(_held(where[e.value, steps[0]])) for e in node.inputs)
    where.update({(v.name, t): v.name for v in node.outputs for t in range(all_steps)})
    node = replace(node, inputs=reads)
    return node.with_attrs(updates=len(steps)) if node.op == "bn" else node


def place(node: Node, t: int, where: Where, values: dict[str, Value], wanted: frozenset[tuple[str, int]]) -> list[Node]:
    """The node at step t, or nothing when its value is zero or another's. `where` learns its values.

    A neuron gives only what is read of it: at the last step that is its spikes.
    """
    reads = [where[e.value, t - e.delay] if t >= e.delay else None for e in node.inputs]
    zeros = frozenset(i for i, name in enumerate(reads) if name is None)
    verdict = OPS[node.op].zero(node, zeros) if zeros else None
    if verdict == "zero":
        where.update({(v.name, t): None for v in node.outputs})
        return []
    if verdict == "pass":
        (left,) = [name for name in reads if name is not None]
        where[node.output.name, t] = left
        return []
    built: list[Node] = []
    if isinstance(verdict, Node):
        node = verdict
        reads = [name for name in reads if name is not None]
    if verdict == "keep":
        for index in sorted(zeros):
            zero = zeros_like(f"{node.name}.zero{index}", values[node.inputs[index].value], t)
            built.append(zero)
            reads[index] = zero.name
    inputs = tuple(Edge(name) for name in reads if name is not None)
    if has(node, Trait.NEURON):
        given = zip(equations_of(node).gives, node.outputs, strict=True)
        node, gone = narrowed(replace(node, inputs=inputs), [name for name, v in given if (v.name, t) in wanted])
        inputs = tuple(e for i, e in enumerate(inputs) if i not in gone)
    names = [at_step(v.name, t) for v in node.outputs]
    outputs = tuple(Value(name, v.shape) for name, v in zip(names, node.outputs, strict=True))
    where.update({(v.name, t): name for name, v in zip(names, node.outputs, strict=True)})
    # In full: it is done for every node and step of every candidate, where `replace` takes most of the time.
    placed = Node(
        name=at_step(node.name, t),
        op=node.op,
        inputs=inputs,
        outputs=outputs,
        attributes=node.attributes,
        module=node.module,
        port=node.port,
        step=t,
        invariant=node.invariant,
        span=node.span,
    )
    return [*built, placed]


def zeros_like(name: str, value: Value, t: int) -> Node:
    """A node that builds zero in the shape of `value`, for an operand that cannot be left out."""
    name = at_step(name, t)
    return Node(name, "zeros", (), (Value(name, value.shape),), step=t)


def _held(name: str | None) -> str:
    assert name is not None, "a time-invariant value is never zero"
    return name
