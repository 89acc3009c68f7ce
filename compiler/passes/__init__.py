"""Passes, one a file: temporal graph in, temporal graph out. `PASSES` is the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bcgraph.compiler.passes.base import Pass, run
from bcgraph.compiler.passes.dce import Dce
from bcgraph.compiler.passes.defer_norm import DeferNorm
from bcgraph.compiler.passes.fold_bn import FoldBn
from bcgraph.compiler.passes.fuse_conv import FuseConv
from bcgraph.compiler.passes.fuse_lif import FuseLif
from bcgraph.compiler.passes.hoist import Hoist
from bcgraph.compiler.passes.pack_spikes import PackSpikes
from bcgraph.compiler.passes.sink_resize import SinkResize
from bcgraph.errors import CompileError, nearest

__all__ = ["INFERENCE", "PASSES", "TRAINING", "Pass", "pipeline", "run"]

PASSES: Mapping[str, Pass] = {
    p.name: p for p in (Dce(), SinkResize(), FoldBn(), FuseLif(), Hoist(), PackSpikes(), DeferNorm(), FuseConv())
}

# What each keeps: training updates running statistics and must let gradients through; inference may fold
# them away.
TRAINING: tuple[str, ...] = ("dce", "sink_resize", "fuse_lif", "hoist", "pack_spikes")
INFERENCE: tuple[str, ...] = ("dce", "sink_resize", "fold_bn", "fuse_lif", "hoist", "fuse_conv")


def pipeline(names: Sequence[str]) -> tuple[Pass, ...]:
    """The passes of these names, in this order. Raises CompileError (E072) for an unknown one."""
    for name in names:
        if name not in PASSES:
            known = ", ".join(sorted(PASSES))
            hint = nearest(name, PASSES) or f"known: {known}"
            raise CompileError("E072", f"there is no pass `{name}`", hint=hint)
    return tuple(PASSES[name] for name in names)
