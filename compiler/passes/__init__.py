"""Passes, one a file: temporal graph in, temporal graph out. `PASSES` is the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bcgraph import plugins
from bcgraph.compiler.passes.base import Pass, run
from bcgraph.compiler.passes.dce import Dce
from bcgraph.compiler.passes.defer_norm import DeferNorm
from bcgraph.compiler.passes.defer_sums import DeferSums
from bcgraph.compiler.passes.fold_bn import FoldBn
from bcgraph.compiler.passes.fold_sums import FoldSums
from bcgraph.compiler.passes.fuse_conv import FuseConv
from bcgraph.compiler.passes.fuse_neuron import FuseNeuron
from bcgraph.compiler.passes.hoist import Hoist
from bcgraph.compiler.passes.merge_projections import MergeProjections
from bcgraph.compiler.passes.pack_spikes import PackSpikes
from bcgraph.compiler.passes.sink_resize import SinkResize
from bcgraph.errors import CompileError, nearest

__all__ = ["PASSES", "Pass", "find", "run"]

PASSES: Mapping[str, Pass] = {
    p.name: p
    for p in (
        Dce(),
        SinkResize(),
        MergeProjections(),
        FoldBn(),
        FoldSums(),
        FuseNeuron(),
        Hoist(),
        PackSpikes(),
        DeferNorm(),
        DeferSums(),
        FuseConv(),
    )
}


# Names that passes had before.
_FORMER: Mapping[str, str] = {"fuse_lif": "fuse_neuron"}


def is_pass(value: object) -> bool:
    """Whether a value has all that a pass has."""
    return all(hasattr(value, part) for part in ("name", "inference_only", "run"))


def find(chosen: Sequence[str | Pass]) -> tuple[Pass, ...]:
    """The passes in `chosen`, in this order: names of `PASSES` or of registered passes, or passes with their options.

    Raises CompileError (E072) for an unknown name, and for what is no pass.
    """
    return tuple(_find(each) for each in chosen)


def _find(chosen: str | Pass) -> Pass:
    if not isinstance(chosen, str):
        if not is_pass(chosen):
            raise CompileError(
                "E072", f"{chosen!r} is not a pass", hint="a pass has `name`, `inference_only` and `run(graph)`"
            )
        return chosen
    chosen = _FORMER.get(chosen, chosen)
    if chosen in PASSES:
        return PASSES[chosen]
    entry = plugins.find("pass", chosen)
    if entry is None:
        known = (*PASSES, *(e.name for e in plugins.REGISTRY.entries() if e.kind == "pass"))
        hint = nearest(chosen, known) or f"known: {', '.join(sorted(known))}"
        raise CompileError("E072", f"there is no pass `{chosen}`", hint=hint)
    found: Pass = entry.value
    return found
