"""A feedback loop of vectors as a module.

Shapes: the value of one step is `[N, C]`, that of all steps `[T*N, C]`, time first. A step is so short that starting
its operations takes longer than what they compute. So a loop is one function for autograd, which runs kernels on memory
that it has, and takes the gradient of a weight from all steps in one product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcgraph.nn.hooks import hooked
from bcgraph.nn.loop.backward import backward
from bcgraph.nn.loop.calls import Fire, Loop, Norm, Product
from bcgraph.nn.loop.forward import Given, forward
from bcgraph.nn.modules import BatchNorm
from bcgraph.nn.neuron.neuron import needs_gradient, total
from bcgraph.nn.transforms import first_order, traced

Seen: TypeAlias = Callable[[int, int, Tensor], None]
"""Called with a port, a step, and the whole current `[N, C]` of the port."""


class LoopModule(nn.Module):
    """Runs a loop in a network."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop = loop

    def forward(self, frames: Sequence[Tensor], fixed: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """All steps: one tensor `[T*N, C]` for each of `results`."""
        return self.run(frames, fixed)

    def run(self, frames: Sequence[Tensor], fixed: Sequence[Tensor], seen: Seen | None = None) -> tuple[Tensor, ...]:
        """As `forward`. `seen` is called for each port and step, before the port fires."""
        loop = self.loop
        known = dict(zip(loop.fixed, fixed, strict=True))
        uniforms = {call.port: self._uniforms(call, known, frames[0]) for call in loop.calls if isinstance(call, Fire)}
        affine = [p for norm in loop.norms.values() for p in (norm.weight, norm.bias)]
        given = Given.of(loop, frames, fixed, uniforms, affine)
        gradient = needs_gradient(*given.tensors)
        if traced() or not self._simple(frames[0]) or (gradient and seen is not None):
            return self._plain(frames, known, uniforms, seen)
        if gradient:
            found: tuple[Tensor, ...] = _Loop.apply(given.names, *given.tensors)
            return found
        return forward(given, keep=False, seen=seen)[0]

    def _uniforms(self, call: Fire, known: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
        one = call.kernels[1]
        return dict(zip(one.uniform, one.uniforms([known[name] for name in call.learned], like), strict=True))

    def _simple(self, like: Tensor) -> bool:
        """Whether norms are plain and nobody hooks them, and no autocast chooses the type of each call."""
        plain = all(type(norm) is BatchNorm and not hooked(norm) for norm in self.loop.norms.values())
        return plain and not torch.is_autocast_enabled(like.device.type)

    def _plain(
        self,
        frames: Sequence[Tensor],
        known: Mapping[str, Tensor],
        uniforms: Mapping[int, Mapping[str, Tensor]],
        seen: Seen | None,
    ) -> tuple[Tensor, ...]:
        """All steps in torch's own operations, which tracers and transforms can follow."""
        loop = self.loop
        values = {name: list(loop.of_steps(name, x)) for name, x in zip(loop.frames, frames, strict=True)}

        def read(name: str, t: int) -> Tensor:
            return values[name][0 if name in loop.steady else t]

        for t in range(loop.steps):
            for call in loop.calls:
                if isinstance(call, Fire):
                    current = total([read(name, t - late) for name, late in call.currents if late <= t])
                    if seen is not None:
                        seen(call.port, t, current)
                    one = call.kernels[t > 0]
                    zero = None if t else torch.zeros_like(current)
                    before = [read(call.states[key], t - 1) if zero is None else zero for key in one.states]
                    made = one.plain(current, *before, *(uniforms[call.port][key] for key in one.uniform))
                    for name, value in zip(call.gives, made, strict=True):
                        values.setdefault(name, []).append(value)
                elif t < call.steps:
                    x = read(call.reads, t)
                    values.setdefault(call.gives, []).append(self._layer(call, x, known))
        return tuple(torch.cat(values[name]) for name in loop.results)

    def _layer(self, call: Product | Norm, x: Tensor, known: Mapping[str, Tensor]) -> Tensor:
        if isinstance(call, Norm):
            normed: Tensor = self.loop.norms[call.module](x)
            return normed
        return F.linear(x, known[call.weight].flatten(1), None if call.bias is None else known[call.bias])


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, names: tuple[Loop, tuple[Any, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        given = Given(names[0], names[1], tensors)
        results, held = forward(given, keep=True)
        ctx.names, ctx.held, ctx.count = names, tuple(held), len(tensors)
        ctx.save_for_backward(*tensors, *held.values())
        return results

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        loop, keys = ctx.names
        given = Given(loop, keys, saved[: ctx.count])
        held = dict(zip(ctx.held, saved[ctx.count :], strict=True))
        return (None, *backward(given, held, gradients))
