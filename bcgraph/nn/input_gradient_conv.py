"""A convolution whose weights ask for no gradient: all that its backward pass needs is the weights.

Training-free scores look at the gradient of the input alone. It may be computed in a narrower type than the forward
pass: there the spikes are decided, and one that flips goes on to flip others; back from them everything is linear, and
a rounding stays a rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bcgraph.nn.int16_conv import Int16Weight
from bcgraph.nn.onednn import bfloat16_is_fast
from bcgraph.nn.transforms import first_order, traced
from bcgraph.nn.winograd import TiledWeight


def conv2d_frozen_weight(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    gradient: torch.dtype | None = None,
    int16: Int16Weight | None = None,
    tiled: TiledWeight | None = None,
) -> Tensor:
    """Convolve `[N, C, H, W]`: spikes with the weight `int16` if it is given, anything by tiles with `tiled`.

    The gradient of x is computed with `weight` or `tiled`, in the type `gradient` (default: that of x).
    """
    settings = (stride, padding, dilation, groups)
    if traced() or not (torch.is_grad_enabled() and x.requires_grad):
        return _forward(x, weight, bias, int16, tiled, settings)
    result: Tensor = _FrozenWeightConv.apply(x, weight, bias, int16, tiled, gradient or x.dtype, *settings)
    return result


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, int16: Int16Weight | None, tiled: TiledWeight | None, settings: Any
) -> Tensor:
    if int16 is not None:
        return int16(x)
    if tiled is not None and tiled.takes(x):
        return tiled(x, bias)
    kind = computed_in(x)
    if kind == x.dtype:
        return F.conv2d(x, weight, bias, *settings)
    return F.conv2d(x.to(kind), weight.to(kind), None if bias is None else bias.to(kind), *settings).to(x.dtype)


class _FrozenWeightConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        int16: Int16Weight | None,
        tiled: TiledWeight | None,
        gradient: torch.dtype,
        *settings: Any,
    ) -> Tensor:
        ctx.settings, ctx.gradient, ctx.tiled, ctx.shape = settings, gradient, tiled, x.shape
        last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        ctx.save_for_backward(weight)
        return _forward(x, weight, bias, int16, tiled, settings)

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        given = gradients[0].to(ctx.gradient)
        kind = computed_in(given)
        if ctx.tiled is not None and ctx.tiled.takes(given):
            to_x = ctx.tiled.gradient(given)
        else:
            # The kernel wants an input for its shape and layout; what it holds is never read.
            like = torch.empty(ctx.shape, dtype=kind, device=given.device, memory_format=ctx.layout)
            weight = weight.to(ctx.gradient).to(kind)
            only_x = [True, False, False]
            to_x, _, _ = torch.ops.aten.convolution_backward(
                given.to(kind), like, weight, None, stride, padding, dilation, False, [0, 0], groups, only_x
            )
        return (to_x.to(ctx.gradient).to(gradients[0].dtype), *([None] * 9))


def computed_in(x: Tensor) -> torch.dtype:
    """The type that a convolution of `x` is computed in: for bfloat16 on a processor without kernels, float32.

    There the factors and the result are rounded as they would be, in a thirtieth of the time that torch needs.
    """
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not bfloat16_is_fast():
        return torch.float32
    return x.dtype
