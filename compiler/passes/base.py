"""What a pass is: a small frozen value with a name, whose fields are its options, that maps a graph to a graph."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Protocol

from bcgraph import plugins
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
    """Run a pipeline, with the verifier after each pass that changed something.

    Raises PluginError (E095) when a pass that is not of bcgraph itself fails, or the verifier refuses what it makes.
    """
    for step in passes:
        with nullcontext() if type(step).__module__.startswith("bcgraph.") else _foreign(step):
            after = step.run(graph)
            if after is not graph:
                verify(after)
        graph = after
    return graph


def _foreign(step: Pass) -> AbstractContextManager[None]:
    entry = plugins.REGISTRY.get("pass", step.name)
    if entry is None:
        kind = type(step)
        entry = plugins.Entry("pass", step.name, step, plugins.Origin(kind.__module__, 0))
    return plugins.calling(entry)
