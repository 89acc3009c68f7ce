"""A candidate's network as the compiler sees it: lowered once for its modules, its program and all initializations.

Candidates of one backbone have most of their programs in common. So when many are asked for, the network with all
connections of the space is lowered once, and a candidate's program is what is left of that one (`restriction`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from bcgraph import names, spaces
from bcgraph.compiler import passes, pipelines
from bcgraph.compiler.ir import Node, Program, TemporalGraph
from bcgraph.compiler.lower import lower
from bcgraph.errors import CompileError
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.pairs import Space
from bcgraph.search.space.search_space import of_search
from bcgraph.search.supernet.checkpoint import everything
from bcgraph.search.supernet.restriction import Restriction


@dataclass(frozen=True, eq=False)
class Lowered:
    """The network `spec`. `known` is its program where that is known without its temporal graph.

    Evaluators build one for each candidate and drop it afterwards: graphs of a whole pool would fill the memory.
    """

    spec: NetworkSpec
    known: Program | None = None

    @staticmethod
    def of(spec: NetworkSpec) -> Lowered:
        """Lower `spec`. Raises CompileError when it cannot run."""
        found = Lowered(spec)
        _ = found.graph
        return found

    @cached_property
    def graph(self) -> TemporalGraph:
        """The temporal graph."""
        return lower(self.spec)

    @cached_property
    def shared(self) -> Mapping[str, str]:
        """The names of its projections among the weights that all candidates share, where those are others.

        A member of a space may not be the only one between its ports.
        """
        return spaces.shared_names(self.spec)

    def shared_name(self, module: str) -> str:
        """The name of a module of this network among the weights that all candidates share."""
        return names.renamed(module, self.shared) or module

    @cached_property
    def program(self) -> Program:
        """The program of all steps. Its names and nodes match those of the backbone's program."""
        return self.known or self.scheduled("unrolled", pipelines.CANDIDATE)

    def scheduled(self, schedule: str, optimize: pipelines.Names) -> Program:
        """The program of a schedule after the passes in `optimize`. Raises CompileError (E072)."""
        return pipelines.scheduled(passes.run(passes.find(optimize), self.graph), schedule)

    def shared_modules(self, program: Program) -> Program:
        """A program of this network with its modules by the names among the weights that all candidates share."""
        if not self.shared:
            return program
        nodes: list[Node] = []
        for node in program.nodes:
            nodes.append(node if node.module is None else replace(node, module=self.shared_name(node.module)))
        return replace(program, nodes=tuple(nodes))


PAIRS_A_CANDIDATE = 8
"""To lower the network with all connections takes as long as to lower one candidate for so many of them."""

MOST = 2000
"""Connections that are lowered together. More take long, and much memory."""


class Lowering:
    """Lowers candidates that have the backbone of `spec`, and connections of the space that its search describes.

    Other connections are lowered one by one, and so is everything where a file describes the space: there no network
    need hold all connections.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.plain = Lowered.of(spec.with_connections())
        self.asked = 0

    def __call__(self, spec: NetworkSpec) -> Lowered:
        """Lower `spec`. Raises CompileError when it cannot run."""
        self.asked += 1
        return self._restricted(spec) or Lowered.of(spec)

    def _restricted(self, spec: NetworkSpec) -> Lowered | None:
        """`spec` from the network with all connections; None where that does not pay yet, or does not hold it."""
        if self._space is None or self.asked * PAIRS_A_CANDIDATE < self._space.pairs or self._restriction is None:
            return None
        nodes = self._restriction.to(spec.prefixes().values()) if self._holds(spec) else None
        return None if nodes is None else Lowered(spec, replace(self._restriction.program, nodes=nodes))

    @cached_property
    def everything(self) -> Lowered | None:
        """The network with all connections of the space; None where there is none."""
        if self._space is None:
            return None
        try:
            return Lowered.of(everything(self.spec, self._space)[0])
        except CompileError:
            # A candidate says why, if that one has the reason, too.
            return None

    @cached_property
    def _space(self) -> Space | None:
        """The space, where one network may hold all of its connections."""
        found = of_search(self.spec) if self.spec.search.space is None else None
        return found if isinstance(found, Space) and found.pairs <= MOST else None

    def _holds(self, spec: NetworkSpec) -> bool:
        return self._connections.issuperset(spec.connections)

    @cached_property
    def _connections(self) -> frozenset[object]:
        return frozenset(() if self.everything is None else self.everything.spec.connections)

    @cached_property
    def _restriction(self) -> Restriction | None:
        if self.everything is None:
            return None
        return Restriction(self.everything.graph, pipelines.CANDIDATE, self.plain.program)
