"""Pipelines: which passes run for which purpose, and the way from a specification to a program.

    spec -> lower -> passes -> what the schedule asks for -> schedule -> program

Every list of passes of the project stands here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from bcgraph.compiler import passes, schedules
from bcgraph.compiler.ir import Program, TemporalGraph
from bcgraph.compiler.lower import lower
from bcgraph.compiler.ops import Trait, has
from bcgraph.compiler.passes import Pass
from bcgraph.compiler.passes.projections.defer_norm import DeferNorm
from bcgraph.compiler.scc import components
from bcgraph.errors import CompileError
from bcgraph.schema import NetworkSpec

Names: TypeAlias = tuple[str, ...]

TRAINING: Names = (
    "dce",
    "sink_resize",
    "flatten_projections",
    "merge_projections",
    "fuse_neuron",
    "hoist",
    "pack_spikes",
)
"""Keeps running statistics and lets gradients through."""

INFERENCE: Names = (
    "dce",
    "sink_resize",
    "flatten_projections",
    "merge_projections",
    "fold_bn",
    "fold_sums",
    "fuse_neuron",
    "hoist",
    "fuse_conv",
)
"""Folds norms into convolutions, and convolutions into the neurons that read them."""

_FOLDED = INFERENCE.index("fold_bn") + 1
ROUNDED: Names = (*INFERENCE[:_FOLDED], "round_weights", *INFERENCE[_FOLDED:])
"""The same with weights that meet spikes rounded to 16 bits."""

COMPARED: Names = ("dce", "sink_resize")
"""The module that a file is compared with: the same wiring and states, each equation a node of its own."""

FILE: Names = ("dce", "sink_resize", "fold_bn", "fuse_neuron", "hoist")
"""A file for inference of all steps: norms are folded, what all steps share runs once."""

FILE_OF_A_STEP: Names = ("dce", "sink_resize", "defer_norm", "fold_bn", "fuse_neuron")
"""A file of one step. The norms of connections stay, so that its states are those of the torch module."""

NIR: Names = ("dce", "fold_bn", "fuse_neuron")
"""A NIR file. Resizes stay in place, since they are what NIR cannot say."""

SUPERNET: Names = ("dce", "sink_resize", "fuse_neuron", "hoist", "pack_spikes")
"""A path through a supernet in training: each connection by itself, so that a search computes what it always did."""

CANDIDATE: Names = ("dce", "sink_resize", "fuse_neuron", "hoist")
"""A candidate of a search: nothing is packed, as no weight gradients are wanted; norms stay, for batch statistics."""

STATES: Names = ("dce", "sink_resize", "fuse_neuron")
"""Enough to count the states of a step."""

# A program of one step cannot tell the last step apart, so the norms of connections run when their values are read. One
# of all steps has a place for a loop that runs its steps itself.
_ASKED: Mapping[str, tuple[str | Pass, ...]] = {
    "step": (DeferNorm(by_step=True), "defer_sums"),
    "folded": ("fuse_loop",),
}


WEIGHTS = ("float32", "int16")
"""What weights that meet spikes can be in a module for inference."""


def chosen(optimize: Sequence[str | Pass] | None, inference: bool, weights: str | None = None) -> tuple[Pass, ...]:
    """The passes to run: those asked for, or the pipeline for training or inference. Raises CompileError (E072)."""
    if weights is not None:
        if weights not in WEIGHTS:
            raise CompileError("E072", f"there are no weights `{weights}`", hint=f"known: {', '.join(WEIGHTS)}")
        if optimize is not None or not inference:
            hint = "name the pass `round_weights` in it" if optimize is not None else "pass `inference=True`"
            raise CompileError("E072", "`weights` chooses a pipeline for inference", hint=hint)
    if optimize is not None:
        return passes.find(optimize)
    return passes.find(TRAINING if not inference else ROUNDED if weights == "int16" else INFERENCE)


def optimized(spec: NetworkSpec, optimize: Sequence[str | Pass] = TRAINING) -> TemporalGraph:
    """The temporal graph of `spec` after the passes in `optimize`. Raises CompileError (E072)."""
    return passes.run(passes.find(optimize), lower(spec))


def scheduled(graph: TemporalGraph, schedule: str) -> Program:
    """The program of `graph`, after the passes that the schedule asks for. Raises CompileError (E072)."""
    return schedules.schedule(schedule, passes.run(passes.find(_ASKED.get(schedule, ())), graph))


def fastest(graph: TemporalGraph) -> str:
    """The schedule that runs `graph`, after its passes, fastest: `folded` for vectors, else `unrolled`.

    On vectors starting operations takes the time, and all steps at once start fewest, unless a loop that does not fuse
    writes out its steps. On maps both take about as long, and `unrolled` keeps less (see docs/performance.md).
    """
    shapes = {v.name: v.shape for v in graph.values().values()}
    if any(len(shapes[n.outputs[0].name]) > 1 for n in graph.nodes if has(n, Trait.FIRES)):
        return "unrolled"
    fused = passes.run(passes.find(_ASKED["folded"]), graph)
    return "unrolled" if any(len(c.nodes) > 1 for c in components(fused)) else "folded"


def program(spec: NetworkSpec, schedule: str, optimize: Sequence[str | Pass] = TRAINING) -> Program:
    """The program of `spec`: lowered, through the passes in `optimize`, scheduled. Raises CompileError (E072)."""
    return scheduled(optimized(spec, optimize), schedule)
