"""`fuse_loop`: a feedback loop of vectors becomes one node, which runs its steps itself.

On vectors a step is so short that starting its operations takes longer than what they compute. As one node a loop keeps
no graph for autograd, and takes the gradients of its weights from all steps at once. Only a schedule that runs
everything else on all steps at once can place it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bcgraph.compiler.ir import Node, TemporalGraph
from bcgraph.compiler.needed import needed, needed_steps
from bcgraph.compiler.ops import Trait, attributes, has
from bcgraph.compiler.ops.loop import Body
from bcgraph.compiler.ops.neuron import states_of
from bcgraph.compiler.scc import components


@dataclass(frozen=True)
class FuseLoop:
    """Fuse each loop of neurons, products and norms; a late value is read by neurons alone."""

    name: ClassVar[str] = "fuse_loop"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with a node for each such loop; its results are the spikes of its ports and what others read."""
        loops = [c.nodes for c in components(graph) if c.loop and len(c.nodes) > 1 and all(map(_fits, c.nodes))]
        wanted = needed(graph) if loops else frozenset()
        readers = graph.readers()
        fused: dict[str, Node] = {}
        gone: set[str] = set()
        for inside in loops:
            own = {node.name for node in inside}
            read = {v.name for n in inside for v in n.outputs if any(r.name not in own for r, _ in readers[v.name])}
            sent = {n.outputs[0].name for n in inside if has(n, Trait.FIRES)}
            outputs = tuple(v for n in inside for v in n.outputs if v.name in {*read, *sent, *graph.outputs})
            steps = [len(needed_steps(node, graph.steps, wanted)) for node in inside]
            whole = all(n == graph.steps for n, node in zip(steps, inside, strict=True) if {*node.outputs} & {*outputs})
            if not whole:
                continue
            body = Body(inside, tuple(steps))
            name, span = f"{inside[0].name}.loop", inside[0].span
            fused[inside[0].name] = Node(name, "loop", body.outside, outputs, attributes(body=body), span=span)
            gone |= own
        if not fused:
            return graph
        nodes = tuple(fused.get(n.name, n) for n in graph.nodes if n.name in fused or n.name not in gone)
        return graph.with_nodes(_ordered(nodes))


def _fits(node: Node) -> bool:
    if has(node, Trait.NEURON):
        first = len(node.inputs) - len(states_of(node))
        at_once = any(e.delay == 0 for e in node.inputs[:first])
        return node.op == "neuron" and at_once and all(len(v.shape) == 1 for v in node.outputs)
    if node.op == "bn":
        plain = len(node.inputs) == 1 and not node.attrs["layer"].norm.by_step
        return plain and len(node.output.shape) == 1 and node.inputs[0].delay == 0
    return node.op in ("pointwise", "linear") and node.inputs[0].delay == 0


def _ordered(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes in an order in which what is read at once comes first, and else the given one.

    A loop stands where its first node stood, which may be before what its other nodes read.
    """
    makers = {v.name: n for n in nodes for v in n.outputs}
    done: dict[str, Node] = {}
    stack = list(reversed(nodes))
    while stack:
        node = stack.pop()
        if node.name in done:
            continue
        first = [makers[e.value] for e in node.inputs if e.value in makers and not e.delay]
        missing = [n for n in first if n.name not in done]
        if missing:
            stack.append(node)
            stack.extend(reversed(missing))
        else:
            done[node.name] = node
    return tuple(done.values())
