"""The program of a network with some of the connections that a program has: what is left of it without the others."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from bcgraph.compiler import passes, pipelines
from bcgraph.compiler.ir import Edge, Node, Program, TemporalGraph
from bcgraph.compiler.ops import OPS, Trait, has
from bcgraph.compiler.ops.base import Zero
from bcgraph.names import parse_projection

Names: TypeAlias = tuple[str, ...]


def owner(name: str) -> str | None:
    """The connection that a node belongs to, `backward.4_0`; None for the backbone."""
    found = parse_projection(name)
    return None if found is None else found.prefix


def apart(graph: TemporalGraph, optimize: pipelines.Names = pipelines.SUPERNET) -> TemporalGraph:
    """`graph` after the passes in `optimize`, which here make no node of two connections one."""
    first, *rest = passes.find(optimize)
    assert first.name == "dce"
    marked = [n if (own := owner(n.name)) is None else n.with_attrs(owner=own) for n in graph.nodes]
    merged = first.run(graph.with_nodes(tuple(marked)))
    nodes = (replace(n, attributes=tuple(a for a in n.attributes if a[0] != "owner")) for n in merged.nodes)
    return passes.run(tuple(rest), merged.with_nodes(tuple(nodes)))


def _likenesses(graph: TemporalGraph) -> dict[str | None, set[Hashable]]:
    """For each connection, and for the backbone, what its pure nodes compute, where equal ones are made one."""
    found: dict[str | None, set[Hashable]] = {}
    for node in graph.nodes:
        if has(node, Trait.PURE):
            plain = tuple((k, type(v) if k == "layer" else v) for k, v in node.attributes)
            found.setdefault(owner(node.name), set()).add((node.op, node.inputs, str(plain)))
    return found


class Restriction:
    """The unrolled program of `graph`, which has all connections of a space, and what some of them leave of it.

    A connection that is left out reads as zero, as it does before its delay, and each operation says what that leaves.
    Nodes of the program that do not change are the same objects in all restrictions, and those of the program `like`
    are its own.
    """

    def __init__(
        self, graph: TemporalGraph, optimize: pipelines.Names = pipelines.SUPERNET, like: Program | None = None
    ) -> None:
        program = pipelines.scheduled(apart(graph, optimize), "unrolled")
        self._like: Mapping[str, Node] = {} if like is None else {node.name: node for node in like.nodes}
        self.program = program = replace(program, nodes=tuple(map(self._known, program.nodes)))
        self._likenesses = _likenesses(graph)
        self._reads = tuple(tuple(e.value for e in node.inputs) for node in program.nodes)
        self._gives = tuple(tuple(v.name for v in node.outputs) for node in program.nodes)
        self._inputs = frozenset(v.name for v in program.inputs)
        # Simplifying the equations of a neuron takes longer than all else here.
        self._verdicts: dict[tuple[int, frozenset[int]], Zero] = {}
        self._changed: dict[tuple[int, tuple[str, ...]], Node] = {}
        self._projections: dict[str, list[int]] = {}
        self._backbone: list[int] = []
        for place, node in enumerate(program.nodes):
            found = owner(node.name)
            (self._backbone if found is None else self._projections.setdefault(found, [])).append(place)

    def to(self, connections: Iterable[str]) -> tuple[Node, ...] | None:
        """The nodes of the network with these connections, in order; None where they do not follow from the program.

        That is where two of them share a node, such as the resize of one source to the size of two targets.
        """
        connections = tuple(connections)
        backbone: set[Hashable] = self._likenesses.get(None, set())
        seen: set[Hashable] = set()
        for name in connections:
            own = self._likenesses.get(name, set())
            if not (backbone.isdisjoint(own) and seen.isdisjoint(own)):
                return None
            seen |= own
        chosen = [place for name in connections for place in self._projections.get(name, ())]
        known = set(self._inputs)
        alias: dict[str, str] = {}
        found: list[tuple[Node, Names, Names]] = []
        for place in sorted([*self._backbone, *chosen]):
            node, reads, gives = self.program.nodes[place], self._reads[place], self._gives[place]
            if not known.issuperset(reads):
                reads = tuple(alias.get(name, name) for name in reads)
                missing = frozenset(i for i, name in enumerate(reads) if name not in known)
                left = tuple(name for name in reads if name in known)
                verdict = self._verdict(place, missing) if missing else node
                if verdict == "keep":
                    return None
                if verdict == "zero":
                    continue
                if verdict == "pass":
                    alias[node.output.name] = left[0]
                    continue
                if (place, left) not in self._changed:
                    base = verdict if isinstance(verdict, Node) else node
                    self._changed[place, left] = self._known(replace(base, inputs=tuple(map(Edge, left))))
                node, reads = self._changed[place, left], left
                gives = tuple(v.name for v in node.outputs)
            known.update(gives)
            found.append((node, reads, gives))
        return self._live(found)

    def _known(self, node: Node) -> Node:
        """An equal node of the program that nodes are to be those of."""
        found = self._like.get(node.name)
        return found if found is not None and found == node else node

    def _verdict(self, place: int, missing: frozenset[int]) -> Zero:
        """What zeros in the places of `missing` operands leave of a node."""
        if (place, missing) not in self._verdicts:
            node = self.program.nodes[place]
            self._verdicts[place, missing] = OPS[node.op].zero(node, missing)
        return self._verdicts[place, missing]

    def _live(self, nodes: list[tuple[Node, Names, Names]]) -> tuple[Node, ...]:
        """Of nodes, with the names that they read and give, those that the outputs need."""
        wanted = set(self.program.outputs)
        kept: list[Node] = []
        for node, reads, gives in reversed(nodes):
            if not wanted.isdisjoint(gives):
                kept.append(node)
                wanted.update(reads)
        return tuple(reversed(kept))
