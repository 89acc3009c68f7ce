"""`defer_sums`: merged projections of a step are computed when they are read, not when their spikes are made.

What `defer_norm` does for one norm: a program of one step does not know the last step, whose projections nobody reads
and whose statistics must not count. So the delay is moved from after the sums to before the norms, together with a flag
that was delayed as long, or further to before the convolutions where their operands, the spikes, are smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value, free
from bcgraph.compiler.ops import Trait, has
from bcgraph.compiler.ops.merged import stacks_of


@dataclass(frozen=True)
class DeferSums:
    """Move delays from after the sums of merged projections to before them."""

    name: ClassVar[str] = "defer_sums"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph in which every delay ends before a sum that only late readers need."""
        readers = graph.readers()
        waiting = [n.name for n in graph.nodes if n.op == "norm_sum" and len(n.inputs) == len(stacks_of(n)) + 2]
        regions: list[_Region] = []
        for name in waiting:
            if not any(name in region.names for region in regions):
                region = _region(name, graph, readers)
                if region is not None:
                    regions.append(region)
        if not regions:
            return graph
        flags = [n.output.name for n in graph.nodes if n.op == "one"]
        flag = flags[0] if flags else free("exists", graph.values())
        one = () if flags else (Node(free(flag, {n.name for n in graph.nodes}), "one", (), (Value(flag, ()),)),)
        nodes = (*one, *graph.nodes)
        for region in regions:
            nodes = region.moved(nodes, flag)
        return graph.with_nodes(nodes)


@dataclass(frozen=True)
class _Region:
    """Sums and what follows them up to their late readers, all of which read `delay` steps late.

    `convs` are convolutions that move with the sums.
    """

    names: frozenset[str]
    convs: frozenset[str]
    delay: int

    def moved(self, nodes: tuple[Node, ...], flag: str) -> tuple[Node, ...]:
        """`nodes` with the region before its first reader, and its delay before itself."""
        inside = self.names | self.convs
        moving = {v.name for n in nodes if n.name in inside for v in n.outputs}
        # Weights stand wherever a pass has put them, which may be after the place that they are read at now.
        weights = {e.value for n in nodes if n.name in inside for e in n.inputs} - moving
        early = [n for n in nodes if has(n, Trait.WEIGHTS) and weights & {v.name for v in n.outputs}]
        region = [self.deferred(n, moving, flag) for n in nodes if n.name in inside]
        rest = [n for n in nodes if n.name not in inside and n not in early]
        first = next(i for i, n in enumerate(rest) if any(e.value in moving for e in n.inputs))
        after = [
            replace(n, inputs=tuple(Edge(e.value) if e.value in moving else e for e in n.inputs)) for n in rest[first:]
        ]
        return (*rest[:first], *early, *region, *after)

    def deferred(self, node: Node, moving: set[str], flag: str) -> Node:
        if node.name in self.convs:
            # Bits are made of the spikes of this step; those of an earlier one are a state, which is kept anyway.
            return replace(node, inputs=(Edge(node.inputs[0].value, self.delay), node.inputs[1]))
        if node.op != "norm_sum":
            return node
        count = len(stacks_of(node))
        terms = tuple(e if e.value in moving else Edge(e.value, self.delay) for e in node.inputs[:count])
        return replace(node, inputs=(*terms, *node.inputs[count:], Edge(flag, self.delay)))


def _region(name: str, graph: TemporalGraph, readers: dict[str, list[tuple[Node, int]]]) -> _Region | None:
    """The region of the sum `name`; None where something of it is read at once, or by different delays."""
    by_name = {n.name: n for n in graph.nodes}
    producers = graph.producers()
    names = {name}
    delays: set[int] = set()
    pending = [by_name[name]]
    while pending:
        node = pending.pop()
        if any(v.name in graph.outputs for v in node.outputs):
            return None
        found = [(reader, reader.inputs[i].delay) for v in node.outputs for reader, i in readers[v.name]]
        delays.update(delay for _, delay in found if delay)
        neighbors = [reader for reader, delay in found if not delay]
        if node.name != name or node.op != "norm_sum":
            neighbors += [producers[e.value] for e in node.inputs if e.value in producers] if _moves(node) else []
        for other in neighbors:
            if not _moves(other) and other.op != "norm_sum":
                return None
            if other.name not in names:
                names.add(other.name)
                pending.append(other)
    reads = [e for n in names if by_name[n].op != "norm_sum" for e in by_name[n].inputs]
    sums = [by_name[n] for n in names if by_name[n].op == "norm_sum"]
    early = any(e.delay for e in reads) or any(len(s.inputs) != len(stacks_of(s)) + 2 for s in sums)
    late = any(e.delay for s in sums for e in s.inputs)
    if len(delays) != 1 or early or late:
        return None
    return _Region(frozenset(names), _convolutions(sums, graph, producers, readers), delays.pop())


def _moves(node: Node) -> bool:
    """Whether a node commutes with a delay: zero of zero, and nothing but its operands counts."""
    return node.op in ("add", "resize", "split")


def _convolutions(
    sums: list[Node], graph: TemporalGraph, producers: dict[str, Node], readers: dict[str, list[tuple[Node, int]]]
) -> frozenset[str]:
    """The convolutions before `sums`, where what they read is smaller than what they compute."""
    values = graph.values()
    read = {e.value for s in sums for e in s.inputs[: len(stacks_of(s))]}
    names = {s.name for s in sums}
    convs = [
        node
        for value in sorted(read)
        if (node := producers[value]).op == "project"
        and node.inputs[0].delay == 0
        and all(reader.name in names for reader, _ in readers[value])
    ]
    given = sum(math.prod(values[x].shape) for x in {n.inputs[0].value for n in convs})
    made = sum(math.prod(n.output.shape) for n in convs)
    return frozenset(n.name for n in convs) if given <= made else frozenset()
