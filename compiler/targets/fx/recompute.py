"""Recomputation: an unrolled program in segments of steps, of which training keeps only what crosses their borders.

A backward pass runs each segment forward again, from the membranes and projections it began with, before it runs it
backward. With segments of about sqrt(T) steps the memory of T steps becomes that of about 2*sqrt(T), for one more
forward pass. Running statistics are updated once: the second run updates copies that are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from bcgraph.compiler.ir import Node, Program
from bcgraph.errors import CompileError
from bcgraph.nn import modules
from bcgraph.nn.transforms import transformed


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive nodes of a program, with the values that they read from before and those that are read after them."""

    program: Program
    name: str


class Segment(nn.Module):
    """Some steps of a network. It shares the network's layers but owns none, so that their names stay as they are."""

    inner: fx.GraphModule

    def __init__(self, inner: fx.GraphModule) -> None:
        super().__init__()
        object.__setattr__(self, "inner", inner)

    def forward(self, *values: Tensor) -> Any:
        """Run the steps; while gradients are on, keep `values` and nothing else."""
        inner = self.inner
        if not torch.is_grad_enabled() or transformed():
            return inner(*values)
        held = _held(inner)

        @contextmanager
        def again() -> Iterator[None]:
            if any(now is not then for now, then in zip(_held(inner), held, strict=True)):
                raise CompileError(
                    "E074",
                    "a recomputing module has other parameters in its backward pass than in its forward pass",
                    hint="with torch.func.functional_call, compile without `recompute`",
                )
            with statistics_aside(inner):
                yield

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), again()

        return checkpoint(inner, *values, use_reentrant=False, context_fn=contexts)


def _held(inner: nn.Module) -> list[Tensor]:
    """The tensors that a forward pass reads: parameters, and the statistics of norms in eval mode."""
    fixed = [b for m in inner.modules() if not m.training for b in m.buffers(recurse=False)]
    return [*inner.parameters(), *fixed]


@contextmanager
def statistics_aside(model: nn.Module) -> Iterator[None]:
    """Inside, updates of running statistics go to copies. Restores them on exit.

    Norms in eval mode update nothing and stay as they are: other threads may be calling them.
    """
    norms = [m for m in model.modules() if isinstance(m, modules.BatchNorm | modules.BatchNormPerStep) and m.training]
    kept = [(m, dict(m.named_buffers())) for m in norms]
    try:
        for module, buffers in kept:
            # The backward pass may read the copies after this has ended, so nothing is copied back.
            for name, value in buffers.items():
                setattr(module, name, value.clone())
        yield
    finally:
        for module, buffers in kept:
            for name, value in buffers.items():
                setattr(module, name, value)


def pieces(program: Program) -> tuple[tuple[Node, ...], tuple[Piece, ...], tuple[Node, ...]]:
    """Cut an unrolled program: the nodes before all steps, the segments, and the nodes after all steps.

    What no step owns (a hoisted stem, the frames of a sequence, the stack at the end) stays outside of the segments.
    """
    size = math.ceil(math.sqrt(program.steps))
    before = tuple(n for n in program.nodes if _outside(n) and n.op != "stack")
    after = tuple(n for n in program.nodes if n.op == "stack")
    values = program.values()
    found: list[Piece] = []
    for index, first in enumerate(range(0, program.steps, size)):
        last = first + size
        nodes = tuple(n for n in program.nodes if not _outside(n) and n.step is not None and first <= n.step < last)
        made = {v.name for n in nodes for v in n.outputs}
        later = [n for n in program.nodes if n.op == "stack" or (n.step is not None and n.step >= last)]
        wanted = {e.value for n in later for e in n.inputs}
        reads = dict.fromkeys(e.value for n in nodes for e in n.inputs if e.value not in made)
        part = replace(
            program,
            name=f"{program.name}_segment{index}",
            schedule="segment",
            inputs=tuple(values[name] for name in reads),
            nodes=nodes,
            outputs=tuple(v.name for n in nodes for v in n.outputs if v.name in wanted),
        )
        found.append(Piece(part, f"segment{index}"))
    return before, tuple(found), after


def _outside(node: Node) -> bool:
    return node.step is None or node.op == "frame"
