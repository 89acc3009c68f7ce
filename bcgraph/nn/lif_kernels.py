"""The kernels of the LIF neuron: its equations on blocks of the batch, written into memory that the caller gives.

The equations are elementwise, so they run block by block. A block is small enough to stay in a core's cache from the
charge to the reset, so each large tensor crosses the memory bus once. All operations stay in floating point: torch
vectorizes neither a conversion from booleans nor `where`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Elements of a block: 2**18 float32 values are 1 MiB. Larger blocks fared alike on 2 MiB of L2 cache.
BLOCK = 1 << 18

# Results of a convolution that its neuron reads at a time. Smaller pieces cost the convolution more than they save.
PIECE = 1 << 19


def triangle(u: Tensor, threshold: float, width: float) -> Tensor:
    """Surrogate derivative `max(0, width - |u - threshold|) / width**2` (paper eq. 5), elementwise."""
    slope = torch.rsub(torch.sub(u, threshold).abs_(), width).clamp_min_(0.0)
    return slope if width == 1.0 else slope.div_(width * width)


def blocks(x: Tensor) -> list[slice]:
    """Slices of the batch axis of about `BLOCK` elements each; one slice off the CPU, where its cache plays no part."""
    if x.device.type != "cpu":
        return [slice(0, x.shape[0])]
    rows = max(1, BLOCK * x.shape[0] // max(1, x.numel()))
    return [slice(k, k + rows) for k in range(0, x.shape[0], rows)]


def empty_steps(like: Tensor, steps: int) -> Tensor:
    """`[T*N, ...]` for steps of the shape and layout of `like`."""
    last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    shape = (steps * like.shape[0], *like.shape[1:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def advance(
    currents: Sequence[Tensor],
    membrane: Tensor | None,
    u: Tensor | None,
    s: Tensor,
    v: Tensor | None,
    tau: float,
    threshold: float,
    mode: str,
) -> None:
    """One step, written into `s` and, where given, into `v` and `u`.

    At a first step with one current, u is that current and is not written.
    """
    for k in blocks(currents[0]):
        now, *others = (c[k] for c in currents)
        if others or membrane is not None:
            out = torch.empty_like(now) if u is None else u[k]
            for other in others:
                now = torch.add(now, other, out=out)
            if membrane is not None:
                now = torch.add(now, membrane[k], alpha=tau, out=out)
        fire_and_reset(now, s[k], None if v is None else v[k], threshold, mode)


def advance_steps(
    given: tuple[Tensor, ...],
    us: tuple[Tensor, ...] | None,
    spikes: tuple[Tensor, ...],
    tau: float,
    threshold: float,
    mode: str,
) -> None:
    """All steps of each block before the next block: the membrane never leaves the cache."""
    last = len(given) - 1
    for k in blocks(given[0]):
        v = torch.empty_like(given[0][k])
        scratch = torch.empty_like(v)
        for t, i_t in enumerate(given):
            now = i_t[k]
            if t > 0:
                now = torch.add(now, v, alpha=tau, out=scratch if us is None else us[t][k])
            elif us is not None:
                now = us[t][k].copy_(now)
            fire_and_reset(now, spikes[t][k], v if t < last else None, threshold, mode)


def fire_and_reset(u: Tensor, s: Tensor, v: Tensor | None, threshold: float, mode: str) -> None:
    """Write the spikes of `u` into `s` and, where given, the membrane after the reset into `v`."""
    torch.gt(u, threshold, out=s)
    if v is None:
        return
    if mode == "hard":
        torch.addcmul(u, u, s, value=-1.0, out=v)
    else:
        torch.sub(u, s, alpha=threshold, out=v)


def gradient(
    u: Tensor,
    to_s: Tensor | None,
    to_v: Tensor | None,
    grad: Tensor,
    threshold: float,
    width: float,
    mode: str,
    detach: bool,
) -> None:
    """Write into `grad` the gradient of `u` from its spikes and from the membrane after the reset (paper eq. 4, 5)."""
    through = to_s
    if to_v is not None and not detach:
        if mode == "hard":
            through = -(to_v * u) if to_s is None else torch.addcmul(to_s, to_v, u, value=-1.0)
        else:
            through = to_v * -threshold if to_s is None else torch.sub(to_s, to_v, alpha=threshold)
    if through is None:
        grad.zero_()
    else:
        torch.mul(triangle(u, threshold, width), through, out=grad)
    if to_v is not None and mode == "hard":
        fired = torch.gt(u, threshold, out=torch.empty_like(u))
        to_v = torch.addcmul(to_v, to_v, fired, value=-1.0)
    if to_v is not None:
        grad.add_(to_v)
