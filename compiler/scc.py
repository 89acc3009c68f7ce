"""Feedback loops: the strongly connected components of the temporal graph over all its edges, delayed ones too.

What lies outside of every loop can be computed for all steps at once; inside a loop, steps must run in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from bcgraph.compiler.ir import Node, TemporalGraph


@dataclass(frozen=True, slots=True)
class Component:
    """Nodes that depend on each other, in the order of the graph; `loop` when one of them depends on itself."""

    nodes: tuple[Node, ...]
    loop: bool


def components(graph: TemporalGraph) -> tuple[Component, ...]:
    """The components of `graph` in topological order: each reads, now or later, only itself and those before it."""
    producers = graph.producers()
    reads = {n.name: _sources(n, producers) for n in graph.nodes}
    place = {n.name: i for i, n in enumerate(graph.nodes)}
    found: list[Component] = []
    for names in _tarjan([n.name for n in graph.nodes], reads):
        nodes = tuple(graph.nodes[place[n]] for n in sorted(names, key=place.__getitem__))
        found.append(Component(nodes, len(names) > 1 or names[0] in reads[names[0]]))
    return tuple(found)


def _sources(node: Node, producers: dict[str, Node]) -> list[str]:
    return [producers[e.value].name for e in node.inputs if e.value in producers]


def _tarjan(names: list[str], reads: dict[str, list[str]]) -> list[list[str]]:
    """Components in topological order (what is read comes first), without recursion."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    for start in names:
        if start in index:
            continue
        work = [(start, iter(reads[start]))]
        index[start] = low[start] = len(index)
        stack.append(start)
        on_stack.add(start)
        while work:
            name, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    cut = stack.index(name)
                    found.append(stack[cut:])
                    on_stack.difference_update(stack[cut:])
                    del stack[cut:]
            elif following not in index:
                index[following] = low[following] = len(index)
                stack.append(following)
                on_stack.add(following)
                work.append((following, iter(reads[following])))
            elif following in on_stack:
                low[name] = min(low[name], index[following])
    return found
