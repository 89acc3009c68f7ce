"""Packed spikes: the backward pass keeps one bit for each.

The weight gradient of a convolution needs its input. Spikes in float32 take 32 bits for one bit of information. They
are packed once for each tensor, and all convolutions that read it share the bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bcgraph.nn.neuron.gpu import launch
from bcgraph.nn.transforms import first_order, traced
from bcgraph.nn.workspace import is_last

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def pack(s: Tensor) -> Tensor:
    """The bits of spikes `[N, C, H, W]`, eight a byte in memory order; empty where no gradient is needed."""
    if traced() or not torch.is_grad_enabled():
        return s.new_empty(0, dtype=torch.uint8)
    if launch.usable(s):
        return launch.pack(s.detach())
    flat = _memory_order(s.detach()).flatten()
    if s.device.type == "cpu":
        # A spike is the only float with a bit set, and numpy turns integers into booleans five times as fast as torch.
        return torch.from_numpy(np.packbits(flat.view(_INTEGERS[flat.element_size()]).numpy().astype(bool)))
    padded = torch.nn.functional.pad((flat != 0).to(torch.uint8), (0, -flat.numel() % 8)).view(-1, 8)
    return (padded << _shifts(s.device)).sum(1, dtype=torch.uint8)


def unpack(bits: Tensor, like: tuple[torch.Size, bool], dtype: torch.dtype) -> Tensor:
    """The spikes that `pack` packed; `like` is their shape and whether they were channels-last."""
    shape, last = like
    if launch.usable(bits):
        return launch.unpack(bits, shape, last, dtype)
    count = shape.numel()
    if bits.device.type == "cpu":
        flat = torch.from_numpy(np.unpackbits(bits.numpy(), count=count))
    else:
        flat = ((bits[:, None] >> _shifts(bits.device)) & 1).flatten()[:count]
    if not last:
        return flat.to(dtype).view(shape)
    n, c, h, w = shape
    return flat.to(dtype).view(n, h, w, c).permute(0, 3, 1, 2)


def spike_conv(
    s: Tensor,
    bits: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """The convolution of spikes `s`, which keeps their `bits` for the weight gradient."""
    keeps = torch.is_grad_enabled() and weight.requires_grad and bits.numel() > 0
    if traced() or not keeps:
        return F.conv2d(s, weight, bias, stride, padding, dilation, groups)
    result: Tensor = _SpikeConv.apply(s, bits, weight, bias, stride, padding, dilation, groups)
    return result


class _SpikeConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor, bits: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        ctx.settings = settings
        ctx.like = (s.shape, is_last(s))
        ctx.bias = None if bias is None else list(bias.shape)
        ctx.save_for_backward(bits, weight)
        return F.conv2d(s, weight, bias, *settings)

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        bits, weight = ctx.saved_tensors
        (grad,) = gradients
        s = unpack(bits, ctx.like, grad.dtype)
        stride, padding, dilation, groups = ctx.settings
        needs = [ctx.needs_input_grad[0], ctx.needs_input_grad[2], ctx.bias is not None]
        # Under autocast the results were narrower than the weight, and not every processor's kernels take both at once.
        narrow = weight.to(grad.dtype)
        to_s, to_weight, to_bias = torch.ops.aten.convolution_backward(
            grad, s, narrow, ctx.bias, stride, padding, dilation, False, [0, 0], groups, needs
        )
        return to_s, None, to_weight, to_bias, None, None, None, None


def _memory_order(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if is_last(x) else x.contiguous()


def _shifts(device: torch.device) -> Tensor:
    # The first of eight values is the highest bit, as in numpy.
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
