"""Batch normalization over several steps at once, each step with statistics of its own.

Shapes: `[T*N, C, H, W]` or `[T*N, C]`, time first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bcgraph.nn.transforms import first_order, transformed


class _StepNorm(torch.autograd.Function):
    """torch's own kernels on one step after the other; keeps the input and two vectors a step."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, steps: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        if steps == 1:
            y, mean, invstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
            return y, mean[None], invstd[None]
        y = torch.empty_like(x)
        # The kernels keep statistics in the weights' precision, on other devices than the CPU in at least float32.
        kept = weight.dtype if x.device.type == "cpu" else torch.promote_types(weight.dtype, torch.float32)
        mean = x.new_empty((steps, x.shape[1]), dtype=kept)
        invstd = torch.empty_like(mean)
        parts = zip(split(x, steps), split(y, steps), mean, invstd, strict=True)
        for x_t, y_t, mean_t, invstd_t in parts:
            out = (y_t, mean_t, invstd_t)
            torch.native_batch_norm(x_t, weight, bias, None, None, True, 0.0, eps, out=out)
        return y, mean, invstd

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, _, ctx.steps, ctx.eps = inputs
        _, mean, invstd = output
        ctx.mark_non_differentiable(mean, invstd)
        ctx.save_for_backward(x, weight, mean, invstd)

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[:3])
        if ctx.steps == 1:
            found = torch.ops.aten.native_batch_norm_backward(
                gradients[0], x, weight, None, None, mean[0], invstd[0], True, ctx.eps, needs
            )
            return (*(g if need else None for g, need in zip(found, needs, strict=True)), None, None)
        to_x = torch.empty_like(x) if needs[0] else None
        to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        for t, (g_t, x_t) in enumerate(zip(split(gradients[0], ctx.steps), split(x, ctx.steps), strict=True)):
            g_x, g_weight, g_bias = torch.ops.aten.native_batch_norm_backward(
                g_t, x_t, weight, None, None, mean[t], invstd[t], True, ctx.eps, needs
            )
            if to_x is not None:
                split(to_x, ctx.steps)[t].copy_(g_x)
            if needs[1]:
                to_weight += g_weight
            if needs[2]:
                to_bias += g_bias
        return to_x, to_weight if needs[1] else None, to_bias if needs[2] else None, None, None


def folding(
    scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor, eps: float, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """In evaluation mode, what the results of a convolution are multiplied by `[C]`, and what is then added `[C]`.

    `bias` is the convolution's own.
    """
    factor = scale * torch.rsqrt(var + eps)
    offset = -mean if bias is None else bias - mean
    return factor, torch.addcmul(shift, offset, factor)


def split(x: Tensor, steps: int) -> tuple[Tensor, ...]:
    """The steps of `[T*N, ...]`, each a view `[N, ...]`."""
    return x.view(steps, -1, *x.shape[1:]).unbind(0)


def step_norm(x: Tensor, weight: Tensor, bias: Tensor, steps: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize `[T*N, C, ...]` by the batch statistics of each step.

    Returns the result, the means `[T, C]` and the variances `[T, C]` (biased), which carry no gradient.
    """
    if transformed():
        return _plain_step_norm(x, weight, bias, steps, eps)
    y, mean, invstd = _StepNorm.apply(x, weight, bias, steps, eps)
    return y, mean, (invstd.detach() ** -2 - eps).clamp_min(0.0)


def _plain_step_norm(x: Tensor, weight: Tensor, bias: Tensor, steps: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """`step_norm` in operations that the transforms of `torch.func` know."""
    parts = split(x, steps)
    y = torch.cat([F.batch_norm(x_t, None, None, weight, bias, True, 0.0, eps) for x_t in parts])
    axes = [0, *range(2, x.dim())]
    statistics = [torch.var_mean(x_t.detach(), axes, correction=0) for x_t in parts]
    return y, torch.stack([mean for _, mean in statistics]), torch.stack([var for var, _ in statistics])
