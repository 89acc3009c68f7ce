"""What a pass is: a small frozen value with a name, whose fields are its options, that maps a graph to a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from bcgraph.compiler.ir import TemporalGraph
from bcgraph.compiler.verify import verify


class Pass(Protocol):
    """A map from temporal graph to temporal graph that changes no output.

    `name` is the key in the table of passes; `inference_only` says that training would not be the same after it.
    """

    name: ClassVar[str]
    inference_only: ClassVar[bool]

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph after the pass; the same object when nothing changed."""


def run(passes: Sequence[Pass], graph: TemporalGraph) -> TemporalGraph:
    """Run a pipeline, with the verifier after each pass that changed something."""
    for step in passes:
        after = step.run(graph)
        if after is not graph:
            verify(after)
        graph = after
    return graph
