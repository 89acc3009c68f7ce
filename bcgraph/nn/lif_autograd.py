"""The LIF neuron for autograd: what it keeps for its backward pass, and its gradient (paper eq. 4 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bcgraph.nn.lif_kernels import advance, advance_steps, blocks, empty_steps, gradient, triangle
from bcgraph.nn.norm import split
from bcgraph.nn.transforms import first_order, second_derivative, transformed


def fire(u: Tensor, threshold: float, width: float) -> Tensor:
    """Spikes of the membrane u, with the triangle as their derivative. Keeps u."""
    kind = _TransformedFire if transformed() else _Fire
    spikes: Tensor = kind.apply(u, threshold, width)
    return spikes


def one_step(
    currents: Sequence[Tensor],
    membrane: Tensor | None,
    *constants: Any,
) -> tuple[Tensor, Tensor]:
    """Spikes and membrane of one step; see `bcgraph.nn.lif.lif`. Keeps u."""
    both: tuple[Tensor, Tensor] = _Lif.apply(membrane, *constants, *currents)
    return both


def all_steps(
    current: Tensor,
    steps: int,
    repeated: bool,
    *constants: Any,
) -> Tensor:
    """Spikes of all steps; see `bcgraph.nn.lif.lif_steps`. Keeps u of each."""
    spikes: Tensor = _LifSteps.apply(current, steps, repeated, *constants)
    return spikes


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float, width: float) -> Tensor:
        ctx.threshold, ctx.width = threshold, width
        ctx.save_for_backward(u)
        return torch.gt(u, threshold, out=torch.empty_like(u))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        # A compiler traces this with gradients on, and takes no function with a forward derivative.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _Slope.apply(u, ctx.threshold, ctx.width) * gradients[0], None, None
        return triangle(u, ctx.threshold, ctx.width).mul_(gradients[0]), None, None


class _TransformedFire(torch.autograd.Function):
    """`_Fire` for the transforms of `torch.func`, of operations that they know."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, threshold: float, width: float) -> Tensor:
        return (u > threshold).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.threshold, ctx.width = inputs
        ctx.save_for_backward(u)
        ctx.save_for_forward(u)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return _Slope.apply(u, ctx.threshold, ctx.width) * gradients[0], None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (u,) = ctx.saved_tensors
        result: Tensor = _Slope.apply(u, ctx.threshold, ctx.width) * tangents[0]
        return result


class _Slope(torch.autograd.Function):
    """The surrogate derivative as a value that has no derivative of its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, threshold: float, width: float) -> Tensor:
        return triangle(u, threshold, width)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise second_derivative()

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise second_derivative()


class _Lif(torch.autograd.Function):
    """One step, keeping `u`; at the first step that is the current itself."""

    @staticmethod
    def forward(
        ctx: Any,
        membrane: Tensor | None,
        tau: float,
        threshold: float,
        width: float,
        mode: str,
        detach: bool,
        *currents: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.tau, ctx.first, ctx.terms = tau, membrane is None, len(currents)
        ctx.settings = (threshold, width, mode, detach)
        alone = membrane is None and len(currents) == 1
        u = currents[0] if alone else torch.empty_like(currents[0])
        s, v = torch.empty_like(u), torch.empty_like(u)
        advance(currents, membrane, None if alone else u, s, v, tau, threshold, mode)
        ctx.save_for_backward(u)
        return s, v

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (u,) = ctx.saved_tensors
        grad = torch.empty_like(u)
        before = None if ctx.first else torch.empty_like(u)
        for k in blocks(u):
            to_s, to_v = (None if g is None else g[k] for g in gradients)
            gradient(u[k], to_s, to_v, grad[k], *ctx.settings)
            if before is not None:
                torch.mul(grad[k], ctx.tau, out=before[k])
        return (before, None, None, None, None, None, *[grad] * ctx.terms)


class _LifSteps(torch.autograd.Function):
    """All steps of a layer without feedback, keeping `u` of each."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        steps: int,
        repeated: bool,
        tau: float,
        threshold: float,
        width: float,
        mode: str,
        detach: bool,
    ) -> Tensor:
        given = (current,) * steps if repeated else split(current, steps)
        ctx.steps, ctx.repeated, ctx.tau = steps, repeated, tau
        ctx.settings = (threshold, width, mode, detach)
        u, s = empty_steps(given[0], steps), empty_steps(given[0], steps)
        advance_steps(given, split(u, steps), split(s, steps), tau, threshold, mode)
        ctx.save_for_backward(u)
        return s

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (u,) = ctx.saved_tensors
        us, to_spikes = split(u, ctx.steps), split(gradients[0], ctx.steps)
        result = torch.zeros_like(us[0]) if ctx.repeated else torch.empty_like(u)
        results = (result,) * ctx.steps if ctx.repeated else split(result, ctx.steps)
        for k in blocks(us[0]):
            grad = torch.empty_like(us[0][k])
            to_v: Tensor | None = None
            for t in reversed(range(ctx.steps)):
                gradient(us[t][k], to_spikes[t][k], to_v, grad, *ctx.settings)
                if ctx.repeated:
                    results[t][k].add_(grad)
                else:
                    results[t][k].copy_(grad)
                to_v = grad.mul(ctx.tau)
        return (result, *([None] * 7))
