"""Feedback loops of vectors: products, norms and neurons that depend on each other, as one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bcgraph.compiler.ir import Edge, Node
from bcgraph.compiler.ops.base import Op, Trait, must_build
from bcgraph.shapes import Shape


@dataclass(frozen=True, slots=True)
class Body:
    """What a loop runs at each step: `nodes` in this order, of which number i runs at the first `steps[i]` steps.

    A value that a node reads late is missing before there is one, as in the graph: a sum leaves it out. What is read
    later than the last step never runs.
    """

    nodes: tuple[Node, ...]
    steps: tuple[int, ...]

    def __str__(self) -> str:
        return f"({', '.join(node.name for node in self.nodes)})"

    @property
    def running(self) -> tuple[Node, ...]:
        """The nodes that run at all."""
        return tuple(node for node, steps in zip(self.nodes, self.steps, strict=True) if steps)

    @property
    def outside(self) -> tuple[Edge, ...]:
        """What the nodes read of others, each once, in order."""
        own = {v.name for node in self.nodes for v in node.outputs}
        return tuple(dict.fromkeys(e for node in self.running for e in node.inputs if e.value not in own))


def body_of(node: Node) -> Body:
    """What the loop `node` runs."""
    found: Body = node.attrs["body"]
    return found


def _loop(node: Node, given: Sequence[Shape]) -> tuple[Shape, ...]:
    made = {v.name: v.shape for each in body_of(node).nodes for v in each.outputs}
    return tuple(made[v.name] for v in node.outputs)


LOOP: Mapping[str, Op] = {
    "loop": Op(1, None, _loop, must_build, "a feedback loop of vectors, all steps", Trait.ALLOCATES),
}
