"""A convolution with frozen weights: its backward pass computes the gradient of the input alone.

Training-free scores need no other gradient. It may have a narrower type than the forward pass. In the forward pass a
rounding error can flip a spike, which flips others. The backward pass is linear, so a rounding error stays one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bcgraph.nn.conv.int16 import Int16Weight
from bcgraph.nn.conv.onednn import bfloat16_is_fast
from bcgraph.nn.conv.winograd import TiledWeight
from bcgraph.nn.transforms import first_order, traced


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
    """Convolve `[N, C, H, W]` with a weight `[out, in/groups, k, k]` that needs no gradient.

    With `int16` x are spikes and the weight has 16 bits; with `tiled` the convolution is Winograd's. The gradient of x
    is computed with `weight` or `tiled`, in the type `gradient` (default: that of x).
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
            # The kernel takes the shape and the layout of its input, and never reads its values.
            like = torch.empty(ctx.shape, dtype=kind, device=given.device, memory_format=ctx.layout)
            weight = weight.to(ctx.gradient).to(kind)
            only_x = [True, False, False]
            to_x, _, _ = torch.ops.aten.convolution_backward(
                given.to(kind), like, weight, None, stride, padding, dilation, False, [0, 0], groups, only_x
            )
        return (to_x.to(ctx.gradient).to(gradients[0].dtype), *([None] * 9))


def computed_in(x: Tensor) -> torch.dtype:
    """The type that a convolution of `x` is computed in: float32 for bfloat16 on a processor without kernels for it.

    Operands and result are still rounded to bfloat16. This takes a thirtieth of the time of torch's own fallback.
    """
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not bfloat16_is_fast():
        return torch.float32
    return x.dtype
