"""The wiring between layers and steps, as functions of tensors without state.

Shapes: one step of one layer is `[N, C, H, W]` or `[N, F]`; all steps are `[T*N, ...]`, time first, or `[T, N, ...]`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bcgraph.errors import DataError
from bcgraph.shapes import power_of_two


def fold(*steps: Tensor) -> Tensor:
    """Steps `[N, ...]` as one batch `[T*N, ...]`, time first."""
    return torch.cat(steps)


def fold_frames(x: Tensor, steps: int, axes: int = 3) -> Tensor:
    """A sequence `[T, N, C, H, W]` as one batch `[T*N, C, H, W]`. Raises DataError (E090) for another length.

    `axes` is the number of axes of a frame.
    """
    return _checked(x, steps, axes).flatten(0, 1)


def repeat(x: Tensor, steps: int) -> Tensor:
    """`[N, ...]` for each of `steps`, as `[T*N, ...]`."""
    return x.repeat(steps, *([1] * (x.dim() - 1)))


def shift(x: Tensor, delay: int, steps: int) -> Tensor:
    """`[T*N, ...]` late by `delay` steps: step t holds step t - delay, and zero before."""
    batch = x.shape[0] // steps
    late = min(delay, steps) * batch
    return torch.cat([x.new_zeros((late, *x.shape[1:])), x[: x.shape[0] - late]])


def at(x: Tensor, step: int, steps: int) -> Tensor:
    """One step of `[T*N, ...]`, `[N, ...]`."""
    return x.view(steps, -1, *x.shape[1:])[step]


def unfold(x: Tensor, steps: int) -> Tensor:
    """`[T*N, ...]` as `[T, N, ...]`."""
    return x.view(steps, -1, *x.shape[1:])


def count(before: Tensor, steps: int) -> Tensor:
    """How many steps each sample has had with this one, at most `steps`; `before`, `[N]`, counts those before it."""
    return (before + 1).clamp(max=steps)


def present(x: Tensor, exists: Tensor) -> Tensor:
    """`x`, `[N, ...]`, where its step exists; zero where `exists`, one number a sample `[N]`, is zero."""
    return x * exists.view(-1, *([1] * (x.dim() - 1)))


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The pointwise convolution of vectors `[N, C]` by a weight `[out, C, 1, 1]`."""
    return F.linear(x, weight.flatten(1), bias)


def gate(x: Tensor, *values: Tensor) -> Tensor:
    """`x` times one plus each of the `values`, all of one shape."""
    for value in values:
        x = x * (1 + value)
    return x


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Nearest neighbor, `[N, C, h, w]` to `[N, C, height, width]`: row i reads row `floor(i*h/height)`.

    torch's own nearest multiplies by a rounded ratio, which is exact for powers of two only; elsewhere rows
    and columns are picked by integer arithmetic.
    """
    h, w = x.shape[-2], x.shape[-1]
    if power_of_two(height, h) and power_of_two(width, w):
        return F.interpolate(x, size=(height, width), mode="nearest")
    rows = torch.arange(height, device=x.device) * h // height
    columns = torch.arange(width, device=x.device) * w // width
    return x.index_select(-2, rows).index_select(-1, columns)


def frames(x: Tensor, steps: int, axes: int = 3) -> tuple[Tensor, ...]:
    """The frames of a sequence `[T, N, C, H, W]`, one a step. Raises DataError (E090) for another number of them."""
    return _checked(x, steps, axes).unbind(0)


def _checked(x: Tensor, steps: int, axes: int) -> Tensor:
    if x.dim() != axes + 2 or x.shape[0] != steps:
        named = {3: "C, H, W", 2: "C, L", 1: "F"}[axes]
        raise DataError(
            "E090",
            f"the network reads a sequence [{steps}, N, {named}], but got a tensor {list(x.shape)}",
            hint="time comes first; its length is the network's `steps`",
        )
    return x


def zeros(x: Tensor, *shape: int) -> Tensor:
    """Zero of `shape` for each sample of the batch `x`, `[N, *shape]`."""
    return x.new_zeros((x.shape[0], *shape))


def ones(x: Tensor) -> Tensor:
    """1 for each sample of the batch `x`, `[N]`."""
    return x.new_ones((x.shape[0],))
