"""The compiler: temporal graph, passes, schedules, targets.

`lower` and the graph's text need no torch; `compile` is loaded when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy
from bcgraph.compiler.ir import Edge, Node, Program, State, TemporalGraph, Value
from bcgraph.compiler.lower import lower
from bcgraph.compiler.printer import graph_text, program_text

if TYPE_CHECKING:
    from bcgraph.compiler.driver import compile

__all__ = [
    "Edge",
    "Node",
    "Program",
    "State",
    "TemporalGraph",
    "Value",
    "compile",
    "graph_text",
    "lower",
    "program_text",
]

__getattr__ = lazy.attach(
    __name__,
    {
        "compile": "bcgraph.compiler.driver:compile",
    },
)
