"""A candidate's network as the compiler sees it: lowered once for its modules, its program and all initializations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from bcgraph import names, spaces
from bcgraph.compiler import passes, pipelines
from bcgraph.compiler.ir import Node, Program, TemporalGraph
from bcgraph.compiler.lower import lower
from bcgraph.schema import NetworkSpec


@dataclass(frozen=True, eq=False)
class Lowered:
    """The network `spec` and its temporal graph.

    `shared` are the names of its projections among the weights that all candidates share, where those are others:
    a member of a space may not be the only one between its ports.
    Evaluators build one for each candidate and drop it afterwards: graphs of a whole pool would fill the memory.
    """

    spec: NetworkSpec
    graph: TemporalGraph
    shared: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(spec: NetworkSpec) -> Lowered:
        """Lower `spec`. Raises CompileError when it cannot run."""
        return Lowered(spec, lower(spec), spaces.shared_names(spec))

    def shared_name(self, module: str) -> str:
        """The name of a module of this network among the weights that all candidates share."""
        return names.renamed(module, self.shared) or module

    @cached_property
    def program(self) -> Program:
        """The program of all steps. Its names and nodes match those of the backbone's program."""
        return self.scheduled("unrolled", pipelines.CANDIDATE)

    def scheduled(self, schedule: str, optimize: pipelines.Names) -> Program:
        """The program of a schedule after the passes in `optimize`. Raises CompileError (E072)."""
        return pipelines.scheduled(passes.run(passes.find(optimize), self.graph), schedule)

    def shared_modules(self, program: Program) -> Program:
        """A program of this network with its modules by the names among the weights that all candidates share."""
        nodes: list[Node] = []
        for node in program.nodes:
            nodes.append(node if node.module is None else replace(node, module=self.shared_name(node.module)))
        return replace(program, nodes=tuple(nodes))
