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

from bcgraph.nn.whole import WholeWeight


def frozen_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    gradient: torch.dtype | None = None,
    whole: WholeWeight | None = None,
) -> Tensor:
    """Convolve `[N, C, H, W]`, spikes with the weight `whole` if it is given.

    The gradient of x is computed with `weight`, in the type `gradient` (default: that of x).
    """
    settings = (stride, padding, dilation, groups)
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and x.requires_grad):
        return F.conv2d(x, weight, bias, *settings) if whole is None else whole(x)
    result: Tensor = _FrozenConv.apply(x, weight, bias, whole, gradient or x.dtype, *settings)
    return result


class _FrozenConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        whole: WholeWeight | None,
        gradient: torch.dtype,
        *settings: Any,
    ) -> Tensor:
        ctx.settings, ctx.gradient, ctx.shape = settings, gradient, x.shape
        last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        ctx.save_for_backward(weight)
        return F.conv2d(x, weight, bias, *settings) if whole is None else whole(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        given = gradients[0].to(ctx.gradient)
        # The kernel wants an input for its shape and layout; what it holds is never read.
        like = torch.empty(ctx.shape, dtype=ctx.gradient, device=given.device, memory_format=ctx.layout)
        weight = weight.to(ctx.gradient)
        only_x = [True, False, False]
        to_x, _, _ = torch.ops.aten.convolution_backward(
            given, like, weight, None, stride, padding, dilation, False, [0, 0], groups, only_x
        )
        return (to_x.to(gradients[0].dtype), *([None] * 8))
