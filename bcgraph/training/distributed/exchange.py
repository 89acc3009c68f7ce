"""The exchange of gradients by plain collectives, which a CUDA graph can hold.

torch's DistributedDataParallel exchanges them by hooks of the backward pass, in buckets that it lays out anew after its
first step. It needs eleven steps on the stream of a capture before one. Here all gradients of one type are averaged at
once, after the backward pass, in the same way in a plain step and in a captured one. With two processes the results are
those of DistributedDataParallel to the bit; with more, sums may be added in another order.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


@torch.no_grad()
def average(gradients: Iterable[Tensor]) -> None:
    """Replace gradients by their means over all processes, each of which gives as many, in the same order."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for gradient in gradients:
        kinds.setdefault(gradient.dtype, []).append(gradient)
    share = 1 / dist.get_world_size()
    for same in kinds.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in same]).mul_(share)
        dist.all_reduce(flat)
        parts = torch.split_with_sizes(flat, [gradient.numel() for gradient in same])
        means = [part.view(gradient.shape) for part, gradient in zip(parts, same, strict=True)]
        torch._foreach_copy_(same, means)


@torch.no_grad()
def broadcast(module: nn.Module) -> None:
    """Give `module` the parameters and running statistics that it has in the first process.

    Later all processes change them alike: gradients and the statistics of batches are sums over all of them.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        flat = tensor.detach().reshape(-1).contiguous()
        dist.broadcast(flat, 0)
        tensor.copy_(flat.view(tensor.shape))
