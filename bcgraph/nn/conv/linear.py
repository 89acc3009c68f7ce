"""Linear layers: on many rows oneDNN's product of matrices, which takes 0.7 to 0.9 of the time of torch's own.

Shapes: rows `[N, C]`, weights `[out, C]`. Small products are left to torch, as starting oneDNN takes longer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bcgraph.nn.conv import onednn
from bcgraph.nn.transforms import traced

# Multiplications from which oneDNN was as fast or faster on every shape that was tried.
LARGE = 1 << 25


class Linear(nn.Linear):
    """torch's linear layer. What it computes differs from it by rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` times the weight, plus the bias."""
        if not _suits(x, self.weight):
            return super().forward(x)
        if not torch.is_grad_enabled():
            return onednn.multiply(x, self.weight, self.bias)
        found: Tensor = _Product.apply(x, self.weight, self.bias)
        return found


def _suits(x: Tensor, weight: Tensor) -> bool:
    if type(x) not in (Tensor, nn.Parameter) or x.dim() != 2 or x.dtype != torch.float32 or x.dtype != weight.dtype:
        return False
    if x.device.type != "cpu" or weight.device.type != "cpu" or x.numel() * len(weight) < LARGE or traced():
        return False
    return not torch.is_autocast_enabled("cpu") and onednn.multiplies()


class _Product(torch.autograd.Function):
    """The backward pass is of torch's own products, so that it can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn.multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            gradient @ weight if to_x else None,
            gradient.t() @ x if to_weight else None,
            gradient.sum(0) if to_bias else None,
        )
