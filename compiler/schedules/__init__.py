"""Schedules, one a file: temporal graph in, program out. `SCHEDULES` is the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bcgraph.compiler.ir import Program, TemporalGraph
from bcgraph.compiler.schedules.folded import folded
from bcgraph.compiler.schedules.step import step
from bcgraph.compiler.schedules.unrolled import unrolled
from bcgraph.errors import CompileError, nearest

__all__ = ["SCHEDULES", "schedule"]

SCHEDULES: Mapping[str, Callable[[TemporalGraph], Program]] = {"unrolled": unrolled, "folded": folded, "step": step}


def schedule(name: str, graph: TemporalGraph) -> Program:
    """The program of schedule `name`. Raises CompileError (E072) for an unknown one."""
    if name not in SCHEDULES:
        hint = nearest(name, SCHEDULES) or f"known: {', '.join(SCHEDULES)}"
        raise CompileError("E072", f"there is no schedule `{name}`", hint=hint)
    return SCHEDULES[name](graph)
