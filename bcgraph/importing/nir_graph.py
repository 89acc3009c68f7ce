"""A NIR graph of any writer as what one step computes: flat, in an order, with the edges that lead back apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bcgraph.errors import Diagnostic
from bcgraph.importing.layers import RefusedError

_DEEPEST = 32
_THROUGH = ("Input", "Output")

Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Flat:
    """Nodes by name in an order in which they run, and edges; those of `back` carry the value of the step before."""

    nodes: dict[str, Any]
    edges: tuple[Edge, ...]
    back: frozenset[Edge]

    def before(self, name: str) -> list[str]:
        """What a node reads of the same step."""
        return [s for s, t in self.edges if t == name and (s, t) not in self.back]

    def after(self, name: str) -> list[str]:
        """What reads a node, in this step or the next."""
        return [t for s, t in self.edges if s == name]


def label(name: str, node: Any) -> str:
    """What the writer calls a node: a file of ours says the name of the layer."""
    given = (getattr(node, "metadata", None) or {}).get("bcgraph.name", name)
    return given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)


def flat(graph: Any) -> Flat:
    """The graph without graphs in it. Raises RefusedError where it has no one input and output."""
    nodes: dict[str, Any] = {}
    edges: list[Edge] = []
    _flatten(graph, "", nodes, edges, 0)
    ends = {kind: [n for n, v in nodes.items() if type(v).__name__ == kind and "." not in n] for kind in _THROUGH}
    if any(len(found) != 1 for found in ends.values()):
        raise RefusedError("the graph has not one input and one output", "a network has one of each")
    for name in [
        n for n, v in nodes.items() if type(v).__name__ in _THROUGH and n not in (*ends["Input"], *ends["Output"])
    ]:
        sources, targets = [s for s, t in edges if t == name], [t for s, t in edges if s == name]
        edges = [e for e in edges if name not in e] + [(s, t) for s in sources for t in targets]
        del nodes[name]
    lost = next((end for edge in edges for end in edge if end not in nodes), None)
    if lost is not None:
        raise RefusedError(f"an edge names `{lost}`, and there is no such node")
    if len(set(edges)) != len(edges):
        raise RefusedError("two edges run between the same nodes")
    order, back = _ordered(ends["Input"][0], edges)
    if ends["Output"][0] not in order:
        raise RefusedError("nothing leads from the input to the output")
    kept = {name: nodes[name] for name in order}
    return Flat(kept, tuple(e for e in edges if e[0] in kept and e[1] in kept), frozenset(back))


def _flatten(graph: Any, prefix: str, nodes: dict[str, Any], edges: list[Edge], depth: int) -> None:
    if depth > _DEEPEST:
        raise RefusedError(f"graphs are nested more than {_DEEPEST} deep")
    inner: dict[str, dict[str, str]] = {}
    for name, node in graph.nodes.items():
        if type(node).__name__ != "NIRGraph":
            nodes[prefix + name] = node
            continue
        _flatten(node, f"{prefix}{name}.", nodes, edges, depth + 1)
        doors = {k: [n for n, v in node.nodes.items() if type(v).__name__ == k] for k in _THROUGH}
        if any(len(found) != 1 for found in doors.values()):
            raise RefusedError(f"the graph `{prefix}{name}` has not one input and one output")
        inner[name] = {kind: f"{prefix}{name}.{found[0]}" for kind, found in doors.items()}
    for source, target in graph.edges:
        one = inner[source]["Output"] if source in inner else prefix + source
        other = inner[target]["Input"] if target in inner else prefix + target
        edges.append((one, other))


def _ordered(start: str, edges: Sequence[Edge]) -> tuple[list[str], set[Edge]]:
    """What `start` reaches, in an order, and the edges that close a loop: they lead to a node on the way to them."""
    following: dict[str, list[str]] = {}
    for source, target in edges:
        following.setdefault(source, []).append(target)
    done: list[str] = []
    seen, on_way = {start}, {start}
    back: set[Edge] = set()
    way: list[tuple[str, Iterator[str]]] = [(start, iter(following.get(start, ())))]
    while way:
        here, rest = way[-1]
        reached = next(rest, None)
        if reached is None:
            way.pop()
            on_way.discard(here)
            done.append(here)
        elif reached in on_way:
            back.add((here, reached))
        elif reached not in seen:
            seen.add(reached)
            on_way.add(reached)
            way.append((reached, iter(following.get(reached, ()))))
    return done[::-1], back


def problem(name: str, node: Any, error: RefusedError) -> Diagnostic:
    """Why a node cannot be said."""
    kind = type(node).__name__
    return Diagnostic("E113", error.message, None, error.hint, notes=(f"in the node `{name}` of the kind {kind}",))
