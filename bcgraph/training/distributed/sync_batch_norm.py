"""Batch normalization over several processes, so that they compute what one process would on the whole batch.

torch's SyncBatchNorm works on GPUs only; this one uses differentiable sums over all processes, on every device.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bcgraph.nn.modules import BatchNorm, BatchNormPerStep


# torch.distributed.nn.functional.all_reduce computes the same, but torch has deprecated it for a private one.
class _AllReduce(torch.autograd.Function):
    """The sum over all processes. All of them use it, so its gradient is a sum over all processes too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        summed = value.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


def _all_reduce(value: Tensor) -> Tensor:
    summed: Tensor = _AllReduce.apply(value)
    return summed


def normalize(x: Tensor, weight: Tensor, bias: Tensor, steps: int, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`x` `[T*N, C, ...]` normalized by the statistics of each step over all processes.

    Returns it with the means and the biased variances `[T, C]` and the number of values by channel in all processes.
    As torch's batch norm, half precision is normalized in float32: its own sums lose digits, and overflow.
    """
    kind, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
    shaped = x.view(steps, -1, *x.shape[1:])
    axes = [1, *range(3, shaped.dim())]
    around = [steps, 1, x.shape[1], *([1] * (shaped.dim() - 3))]
    # Filled on the device: a copy from the host would wait for it.
    count = torch.full((), x.numel() // (steps * x.shape[1]), dtype=x.dtype, device=x.device)
    dist.all_reduce(count)
    mean = _all_reduce(shaped.sum(axes)) / count
    centered = shaped - mean.view(around)
    var = _all_reduce(centered.square().sum(axes)) / count
    scale = (var + eps).rsqrt().view(around)
    channel = [1, 1, x.shape[1], *([1] * (shaped.dim() - 3))]
    y = centered * scale * weight.view(channel) + bias.view(channel)
    return y.flatten(0, 1).to(kind), mean.detach(), var.detach(), count


class SynchronizedBatchNorm(BatchNorm):
    """`BatchNorm` whose batch statistics are those of all processes."""

    def forward(
        self, x: Tensor, exists: Tensor | None = None, *, steps: int = 1, repeats: int = 1, updates: int = 1
    ) -> Tensor:
        """As `BatchNorm`."""
        if not self.training:
            return super().forward(x, exists, steps=steps, repeats=repeats, updates=updates)
        y, mean, var, count = normalize(x, self.weight, self.bias, steps, self.eps)
        count = count * repeats
        self._update(mean, var * count / (count - 1), updates, exists)
        return y if exists is None else y * exists.view(-1, *([1] * (x.dim() - 1)))


class SynchronizedPerStep(BatchNormPerStep):
    """`BatchNormPerStep` whose batch statistics are those of all processes."""

    def forward(self, x: Tensor, step: int | Tensor, exists: Tensor | None = None) -> Tensor:
        """As `BatchNormPerStep`."""
        # One step after the other is no schedule that trains.
        if not self.training or isinstance(step, Tensor):
            return super().forward(x, step, exists)
        y, mean, var, count = normalize(x, *self.affine(step), 1, self.eps)
        running_mean, running_var, batches = self.row(step)
        with torch.no_grad():
            batches += 1
            running_mean.lerp_(mean[0], self.momentum)
            running_var.lerp_(var[0] * count / (count - 1), self.momentum)
        return y


_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    BatchNorm: SynchronizedBatchNorm,
    BatchNormPerStep: SynchronizedPerStep,
}


def synchronize(model: nn.Module) -> None:
    """Let all batch norms of `model` share their statistics over all processes; parameters and names stay."""
    for module in model.modules():
        if type(module) in _KINDS:
            # Only the class changes: compiled code holds the parameters, which must stay the same objects.
            module.__class__ = _KINDS[type(module)]
