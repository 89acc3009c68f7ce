"""3x3 convolutions by Winograd's minimal filtering: a quarter of the products, at the price of transforms.

Maps are cut into tiles of 4x4 results, F(4x4, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks" (2016): a tile of 6x6 inputs d and the kernel g become `Y = A'[(G g G') * (B' d B)]A`, where `*` is a product
of matrices over the channels for each of 36 positions. Rounding errors are three to six times those of a plain
convolution.

Shapes: x is `[N, C, H, W]`, channels-last, with H and W multiples of 4; a transformed weight `[36, in, out]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from bcgraph.nn.conv.int16 import Settings

TILE = 4
_READ = TILE + 2

# Values of one transformed position in a piece of work. All 36 positions and their results then fit the shared cache.
_PIECE = 1 << 15

# Below so many channels, and on larger maps, transforming costs more than the products that it saves.
_CHANNELS = 128
_SIZE = 16

_G = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)


def pays(weight: Tensor, size: tuple[int, int], settings: Settings) -> bool:
    """Whether a convolution with this weight `[out, in, k, k]` is one of these, and faster so, on maps of `size`.

    The answer is the same on every machine with a CPU, since rounding depends on it.
    """
    if weight.shape[2:] != (3, 3) or settings != ((1, 1), (1, 1), (1, 1), 1):
        return False
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        return False
    return min(weight.shape[:2]) >= _CHANNELS and all(0 < n <= _SIZE and n % TILE == 0 for n in size)


class TiledWeight:
    """A weight `[out, in, 3, 3]` that does not change. The transforms for results and for input gradients are computed
    at their first use."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def takes(self, x: Tensor) -> bool:
        """Whether x `[N, C, H, W]`, or a gradient, lies in memory as the transforms read it."""
        return x.is_contiguous(memory_format=torch.channels_last) and x.dtype == self.weight.dtype

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution of x, without its gradient."""
        y = convolve(x, self._forward)
        return y if bias is None else y.add_(bias.view(1, -1, 1, 1))

    def gradient(self, given: Tensor) -> Tensor:
        """The gradient of x from that of the results."""
        return convolve(given, self._backward)

    @cached_property
    def _forward(self) -> Tensor:
        return transformed(self.weight)

    @cached_property
    def _backward(self) -> Tensor:
        return transformed(turned(self.weight))


def transformed(weight: Tensor) -> Tensor:
    """`G g G'` of a weight `[out, in, 3, 3]`, as `[36, in, out]`."""
    outward, inward = weight.shape[:2]
    g = torch.tensor(_G, dtype=torch.float64, device=weight.device)
    taps = weight.detach().permute(2, 3, 1, 0).reshape(9, inward * outward)
    return (torch.kron(g, g) @ taps.double()).to(weight.dtype).view(_READ * _READ, inward, outward)


def turned(weight: Tensor) -> Tensor:
    """The weight `[in, out, 3, 3]` with which the input's gradient is the convolution of the output's."""
    return weight.flip(2, 3).transpose(0, 1)


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of x with a transformed weight, `[N, out, H, W]`, channels-last; carries no gradient."""
    n, channels, height, width = x.shape
    out = weight.shape[2]
    down, across = height // TILE, width // TILE
    layout = torch.channels_last
    y = torch.empty((n, out, height, width), dtype=x.dtype, device=x.device, memory_format=layout)
    given = x.permute(0, 2, 3, 1)
    results = y.permute(0, 2, 3, 1).view(n, down, TILE, across, TILE, out).permute(2, 4, 0, 1, 3, 5)
    rows = max(1, _PIECE // (down * across * max(channels, out)))
    work: _Work | None = None
    with torch.no_grad():
        for k in range(0, n, rows):
            part = given[k : k + rows]
            if work is None or work.samples != len(part):
                work = _Work(len(part), channels, out, down, across, x)
            work(part, weight, results[:, :, k : k + rows])
    return y


class _Work:
    """The memory of one piece of a batch, and the transforms between."""

    def __init__(self, samples: int, channels: int, out: int, down: int, across: int, like: Tensor) -> None:
        self.samples = samples
        height, width = down * TILE + 2, across * TILE + 2
        padded = like.new_zeros((samples, height, width, channels))
        self.inner = padded[:, 1:-1, 1:-1]
        self.columns = [padded[:, :, k : k + width - _READ + 1 : TILE] for k in range(_READ)]
        self.by_column = like.new_empty((_READ, samples, height, across, channels))
        self.rows = [self.by_column[:, :, k : k + height - _READ + 1 : TILE] for k in range(_READ)]
        self.tiles = like.new_empty((_READ, _READ, samples, down, across, channels))
        self.sums = like.new_empty((_READ, _READ, samples, down, across, out))
        self.by_row = like.new_empty((TILE, _READ, samples, down, across, out))

    def __call__(self, x: Tensor, weight: Tensor, y: Tensor) -> None:
        """x `[N, H, W, C]`; y `[4, 4, N, H/4, W/4, out]` is written."""
        self.inner.copy_(x)
        _into(self.columns, self.by_column)
        _into(self.rows, self.tiles)
        flat = self.tiles.flatten(0, 1).flatten(1, 3)
        torch.bmm(flat, weight, out=self.sums.flatten(0, 1).flatten(1, 3))
        _out_of(self.sums, self.by_row)
        _out_of(self.by_row.unbind(1), y.unbind(1))


def _into(d: Sequence[Tensor] | Tensor, v: Tensor) -> None:
    """`B' d` along one axis: six values of each tile."""
    even, odd = torch.sub(d[4], d[2], alpha=4.0), torch.sub(d[3], d[1], alpha=4.0)
    torch.add(even, odd, out=v[1])
    torch.sub(even, odd, out=v[2])
    torch.sub(d[4], d[2], out=even)
    torch.sub(d[3], d[1], out=odd)
    torch.add(even, odd, alpha=2.0, out=v[3])
    torch.sub(even, odd, alpha=2.0, out=v[4])
    torch.sub(d[0], d[2], out=v[0])
    torch.add(even, v[0], alpha=4.0, out=v[0])
    torch.sub(d[5], d[3], out=v[5])
    v[5].sub_(odd, alpha=4.0)


def _out_of(m: Sequence[Tensor] | Tensor, y: Sequence[Tensor] | Tensor) -> None:
    """`A' m` along one axis: four results of each tile."""
    near, far = torch.add(m[1], m[2]), torch.add(m[3], m[4])
    torch.add(near, far, alpha=4.0, out=y[2])
    near.add_(far)
    torch.add(near, m[0], out=y[0])
    torch.sub(m[1], m[2], out=near)
    torch.sub(m[3], m[4], out=far)
    torch.add(near, far, alpha=2.0, out=y[1])
    near.add_(far, alpha=8.0)
    torch.add(near, m[5], out=y[3])
