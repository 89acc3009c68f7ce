"""Target torch.fx: a program becomes a `GraphModule`, its forward readable Python.

Each fx node carries in `meta` the `step`, the `port` and the `span` it comes from; nodes that hold spikes have
`meta["spikes"] = (port, first step, number of steps)`. The module keeps no state between calls but the running
statistics of its batch norms.
"""

from __future__ import annotations

import keyword
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler.ir import Node, Program, TemporalGraph
from bcgraph.compiler.targets.fx.memory_plan import plan
from bcgraph.compiler.targets.fx.nodes import MEMORY, emit, emit_segments
from bcgraph.compiler.targets.fx.observer import spikes as spikes
from bcgraph.compiler.targets.fx.recompute import Segment, pieces, statistics_aside
from bcgraph.errors import CompileError
from bcgraph.names import BACKWARD, parse_projection
from bcgraph.nn import modules
from bcgraph.nn.workspace import Memory


class Module(fx.GraphModule):
    """A compiled program. One with norms folded away has no training mode, and says so."""

    def train(self, mode: bool = True) -> Self:
        """As in torch. Raises CompileError when the module was compiled for inference and `mode` is true."""
        if mode and self.meta.get("inference"):
            raise _folded_away("compile without `inference` and without the pass `fold_bn` to train")
        return super().train(mode)


def _folded_away(hint: str) -> CompileError:
    message = "this module was compiled for inference: its batch norms are part of its convolutions"
    return CompileError("E072", message, hint=hint)


class StepModule(Module):
    """A program of one step, `(x_t, *states) -> (O_t, *states)`, with the states it starts from."""

    def initial_states(self, x_t: Tensor) -> tuple[Tensor, ...]:
        """Zero states for the batch of `x_t`, `[N, C, H, W]`, on its device and with the weights' dtype."""
        like = next(self.parameters(), x_t)
        shapes = [s.shape for s in self.meta["states"]]
        return tuple(torch.zeros((x_t.shape[0], *s), dtype=like.dtype, device=x_t.device) for s in shapes)


def parameters(graph: TemporalGraph, seed: int = 0) -> nn.Module:
    """The modules that own the parameters of `graph`, freshly initialized (see `bcgraph.nn.modules`)."""
    values = graph.values()
    for node in graph.nodes:
        if node.module is not None:
            _check_name(node)
    owners = [
        (node.module, node.attrs["layer"], values[node.inputs[0].value].shape)
        for node in graph.nodes
        if node.module is not None
    ]
    return modules.build(owners, graph.steps, seed)


def _check_name(node: Node) -> None:
    """Refuse a layer whose place in the module tree is taken by torch or by Python (E036)."""
    name = str(node.module)
    if (found := parse_projection(name)) is not None and found.part in ("conv", "bn"):
        return
    for place, part in enumerate(name.split(".")):
        if part in _TAKEN or keyword.iskeyword(part) or (part == BACKWARD and place == 0):
            raise CompileError(
                "E036",
                f"`{name}` cannot be the name of a layer: `{part}` is taken in a torch module",
                span=node.span,
                hint=f"for example `{part}_1`",
            )


_TAKEN = frozenset(dir(StepModule)) | set(vars(nn.Module())) | {"graph", "meta", "code", MEMORY}


def to_fx(
    program: Program,
    root: nn.Module,
    *,
    inference: bool = False,
    recompute: bool = False,
    kept: Collection[str] = (),
) -> Module:
    """The module of `program` with the parameters of `root`, which it shares; in eval mode for `inference`.

    With `recompute` an unrolled program becomes a chain of segments (see `recompute.py`). Inference has a memory plan;
    values that somebody reads from the side, and keeps beyond the call, are named by `kept`.
    """
    places = plan(program, kept) if inference else None
    segments: dict[str, Segment] = {}
    if recompute:
        before, parts, behind = pieces(program)
        for part in parts:
            inner = fx.GraphModule(root, emit(part.program), class_name=part.name.capitalize())
            segments[part.name] = Segment(inner)
        graph = emit_segments(program, before, parts, behind)
    else:
        graph = emit(program, places)
    kind = StepModule if program.schedule == "step" else Module
    module = kind(root, fx.Graph(), class_name="".join(p.capitalize() for p in program.name.split("_")))
    # All owners in the order of the network: every schedule has the same state dict, and a projection that
    # no step reads keeps its weights though it is not in the graph.
    for path, owner in root.named_modules():
        if path and not list(owner.children()):
            module.add_submodule(path, owner)
    for name, segment in segments.items():
        module.add_submodule(name, segment)
    if places is not None and places.sizes:
        module.add_submodule(MEMORY, Memory(places.sizes, axis=1 if program.inputs[0].steps else 0))
    module.graph = graph
    module.meta.update(recompute=recompute)
    module.meta.update(schedule=program.schedule, steps=program.steps, states=program.states)
    module.meta.update(ports=program.ports, sequence=program.sequence)
    if inference:
        module.eval()
        module.meta["inference"] = True
    return module


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Within this, batch norms use the statistics of the batch; running statistics and modes are as before
    behind it. Raises CompileError for a module compiled for inference, which has no norms to switch."""
    if getattr(model, "meta", {}).get("inference"):
        raise _folded_away("compile without `inference` and without the pass `fold_bn` for batch statistics")
    norms = [m for m in model.modules() if isinstance(m, modules.BatchNorm | modules.BatchNormPerStep)]
    modes = [m.training for m in norms]
    try:
        for module in norms:
            module.train()
        with statistics_aside(model):
            yield
    finally:
        for module, mode in zip(norms, modes, strict=True):
            module.train(mode)
