"""Modules of the layers that `bcgraph.layers` declares: each is made from the shape of one sample and its arguments."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcgraph.layers.attention import across_channels
from bcgraph.nn.workspace import is_last
from bcgraph.shapes import Shape


def transposed(
    given: Shape,
    channels: int,
    kernel: int,
    stride: int,
    padding: int,
    output_padding: int,
    groups: int,
    bias: bool,
) -> nn.Module:
    """torch's transposed convolution of images or signals."""
    kind = nn.ConvTranspose2d if len(given) == 3 else nn.ConvTranspose1d
    return kind(given[0], channels, kernel, stride, padding, output_padding, groups, bias)


class Upsample(nn.Module):
    """Each value `factor` times along each axis of places: nearest neighbor."""

    def __init__(self, given: Shape, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        return F.interpolate(x, scale_factor=float(self.factor), mode="nearest")


class Pad(nn.Module):
    """Zeros around the places."""

    def __init__(self, given: Shape, left: int, right: int, top: int, bottom: int) -> None:
        super().__init__()
        self.sides = (left, right, top, bottom)[: 2 * (len(given) - 1)]

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C, ...]` with more places."""
        return F.pad(x, self.sides)


class Tokens(nn.Module):
    """The places of `[N, C, H, W]` in a row, `[N, C, H*W]`."""

    def __init__(self, given: Shape) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        return x.flatten(2)


class Select(nn.Module):
    """`count` channels from number `first`."""

    def __init__(self, given: Shape, first: int, count: int) -> None:
        super().__init__()
        self.first, self.count = first, count

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        return x.narrow(1, self.first, self.count)


class Shuffle(nn.Module):
    """Channels in turn from each of `groups` (ShuffleNet, Zhang et al. 2018)."""

    def __init__(self, given: Shape, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        return torch.unflatten(x, 1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class ChannelSum(nn.Module):
    """The sum of the channels of each group."""

    def __init__(self, given: Shape, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        return torch.unflatten(x, 1, (self.groups, -1)).sum(2)


class PlaceSum(nn.Module):
    """The sum over all places of a channel."""

    def __init__(self, given: Shape) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        return x.sum(tuple(range(2, x.dim())), keepdim=True)


class LayerNorm(nn.Module):
    """Layer norm over the channels at each place: `[N, C, ...]`."""

    def __init__(self, given: Shape, eps: float, affine: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(given[0])) if affine else None
        self.bias = nn.Parameter(torch.zeros(given[0])) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        y = F.layer_norm(x.movedim(1, -1), x.shape[1:2], self.weight, self.bias, self.eps).movedim(-1, 1)
        # torch's batch norm takes gradients in another layout than its input's for those of other places.
        return y.contiguous(memory_format=torch.channels_last if is_last(x) else torch.contiguous_format)


def group_norm(given: Shape, groups: int, eps: float, affine: bool) -> nn.Module:
    """torch's group norm."""
    return nn.GroupNorm(groups, given[0], eps, affine)


class Scale(nn.Module):
    """A trained factor for each channel."""

    def __init__(self, given: Shape, initial: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((given[0],), initial))

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        return x * self.weight.view(-1, *[1] * (x.dim() - 2))


class Times(nn.Module):
    """Everything times a number."""

    def __init__(self, given: Shape, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        return x * self.factor


class Complement(nn.Module):
    """1 less each value: a spike where there was none."""

    def __init__(self, given: Shape) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        return 1 - x


class Attention(nn.Module):
    """Spiking self-attention: see `bcgraph.layers.attention`."""

    def __init__(self, given: Shape, heads: int, scale: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.channels_first = across_channels(given, heads)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        # [N, 3C, ...] as three of [N, heads, C / heads, places].
        q, k, v = torch.unflatten(x.flatten(2), 1, (3, self.heads, -1)).unbind(1)
        mixed = (v @ k.mT) @ q if self.channels_first else v @ (k.mT @ q)
        return (mixed * self.scale).flatten(1, 2).view(x.shape[0], -1, *x.shape[2:])


def multiply(*values: Tensor) -> Tensor:
    """The product of values `[N, C, ...]`; one of fewer channels, or without places, holds for all it stands for."""
    channels, rank = max(value.shape[1] for value in values), max(value.dim() for value in values)
    result = None
    for value in values:
        wide = value if value.shape[1] == channels else value.repeat_interleave(channels // value.shape[1], 1)
        wide = wide.view(*wide.shape, *[1] * (rank - wide.dim()))
        result = wide if result is None else result * wide
    assert result is not None
    return result
