"""Convolutions of spikes with 16-bit integer weights: exact sums in any order, in about half of the time.

Spikes are 0 and 1. With integer weights a current is a sum of integers, which is exact and is rounded once, when it is
scaled. So the result is the same for any number of threads, any layout and any batch size. A weight is rounded to 16
bits, `q = 255*a + b` with a and b of 8 bits each. The kernels for 8 bits of a processor read each spike twice, as 255
and as 1. The tensor cores of a GPU take a and b as they are: both fit the 11 bits of TF32, and sums that stay below
2**24 are exact in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bcgraph.nn.conv import onednn
from bcgraph.nn.workspace import is_last

_BASE = 255
_LIMB = 127
LARGEST = _LIMB * _BASE + _LIMB
"""The largest 16-bit weight: the largest weight of each output channel becomes this number."""

# Sums of the kernels have 32 bits.
_FAN_IN = 2**31 // LARGEST

Settings = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]
"""Stride, padding, dilation and groups."""


@dataclass(frozen=True, eq=False)
class Int16Weight:
    """A convolution's weight `[out, in, k, k]` in 16 bits: integers times a scale for each output channel.

    `packed` holds the integers as the kernels of a processor read them, or `limbs` `[2*out, in, k, k]` all a and then
    all b for those of a GPU. Where this machine has neither, `rounded`, the same weight in floating point, stands in.
    `bias` `[out]` is added to the result.
    """

    scale: Tensor
    bias: Tensor | None
    settings: Settings
    packed: Tensor | None = None
    limbs: Tensor | None = None
    rounded: Tensor | None = None

    @staticmethod
    @torch.no_grad()
    def of(
        weight: Tensor,
        settings: Settings,
        size: tuple[int, int],
        factor: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Int16Weight:
        """The weight for maps of `size` (height, width). Results are multiplied by `factor` `[out]`, if given.

        `fits` says which weights are allowed.
        """
        numbers, scale = _numbers(weight)
        scaled = (scale if factor is None else scale * factor).to(weight.dtype)
        if runs(weight):
            return Int16Weight(scaled, bias, settings, packed=_packed(numbers, settings, size))
        if _runs_on_tensor_cores(weight):
            return Int16Weight(scaled, bias, settings, limbs=_limbs(numbers, weight))
        return Int16Weight(scaled, bias, settings, rounded=numbers.to(weight.dtype) * scaled.view(-1, 1, 1, 1))

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weight, `[out, in, k, k]`."""
        if self.rounded is not None:
            return tuple(self.rounded.shape)
        if self.limbs is not None:
            return (len(self.limbs) // 2, *self.limbs.shape[1:])
        assert self.packed is not None
        out, twice, *taps = self.packed.shape
        return (out, twice // 2, *taps)

    def __call__(self, spikes: Tensor) -> Tensor:
        """The current `[N, out, H, W]` of `spikes` `[N, in, H, W]`, which are 0 or 1."""
        if self.limbs is not None:
            return _on_tensor_cores(spikes, self.limbs, self.scale, self.bias, self.settings)
        if self.packed is None:
            return F.conv2d(spikes, self.rounded, self.bias, *self.settings)  # type: ignore[arg-type]
        result = _convolved(spikes, self.packed, self.scale, self.bias, self.settings)
        return result if is_last(spikes) else result.contiguous()


@dataclass(frozen=True, eq=False)
class Packed:
    """The integers and scale of a `weight` `[out, in, k, k]`, of which this is a copy, for maps of `size`."""

    weight: Tensor
    settings: Settings
    size: tuple[int, int]
    packed: Tensor
    scale: Tensor

    @staticmethod
    @torch.no_grad()
    def of(weight: Tensor, settings: Settings, size: tuple[int, int], before: Packed | None = None) -> Packed:
        """The integers of a weight for which `runs` holds; those of `before` where it is the same weight still.

        Values are compared: an optimizer may change them where no counter tells.
        """
        same = before is not None and (before.settings, before.size) == (settings, size)
        if before is not None and same and torch.equal(before.weight, weight):
            return before
        numbers, scale = _numbers(weight)
        return Packed(weight.detach().clone(), settings, size, _packed(numbers, settings, size), scale)

    def times(self, factor: Tensor, bias: Tensor) -> Int16Weight:
        """The weight with results multiplied by `factor` `[out]` and added to `bias` `[out]`."""
        return Int16Weight((self.scale * factor).to(self.weight.dtype), bias, self.settings, packed=self.packed)


def rounded(weight: Tensor) -> Tensor:
    """The weight with its values rounded to 16 bits. A gradient passes as if they were not."""
    with torch.no_grad():
        numbers, scale = _numbers(weight)
        change = (numbers * scale.view(-1, 1, 1, 1)).to(weight.dtype) - weight
    return weight + change


def runs(weight: Tensor) -> bool:
    """Whether this machine has kernels for the integers of a weight of this type and device."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and kernels_are_exact()


def _numbers(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weight as integers of 16 bits and a scale for each output channel, in float64."""
    exactly = weight.detach().double()
    largest = exactly.abs().amax((1, 2, 3))
    scale = torch.where(largest > 0, largest / LARGEST, 1.0)
    return torch.round(exactly / scale.view(-1, 1, 1, 1)), scale


def fits(weight: Tensor, groups: int) -> bool:
    """Whether sums with this weight `[out, in/groups, k, k]` fit the 32 bits of the kernels."""
    return groups == 1 and weight.dim() == 4 and weight[0].numel() <= _FAN_IN


@cache
def kernels_are_exact() -> bool:
    """Whether this machine has kernels for 8 bits that are exact: those of older processors saturate."""
    given: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    numbers = torch.tensor([LARGEST, -LARGEST, 1 - LARGEST, 128], **given).repeat(16, 16)[:, :, None, None]
    spikes, scale = torch.ones((2, 64, 2, 2), **given), torch.ones(16, **given)
    settings: Settings = ((1, 1), (0, 0), (1, 1), 1)
    numbers[0] = LARGEST
    numbers[1] = -LARGEST
    expected = numbers.sum((1, 2, 3)).view(1, -1, 1, 1).expand(2, 16, 2, 2)

    def check() -> bool:
        found = _convolved(spikes, _packed(numbers, settings, (2, 2)), scale, None, settings)
        return torch.equal(found, expected)

    return onednn.int8_works(check)


def _halves(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of `q = 255*a + b`."""
    high = torch.round(numbers / _BASE)
    return high, numbers - _BASE * high


def _packed(numbers: Tensor, settings: Settings, size: tuple[int, int]) -> Tensor:
    """`q = 255*a + b` `[out, in, k, k]` as interleaved a and b `[out, 2*in, k, k]`, packed for the kernels."""
    both = torch.stack(_halves(numbers), 2).flatten(1, 2).to(torch.int8).contiguous()
    return onednn.pack_int8(both, settings, size)


def _convolved(spikes: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, settings: Settings) -> Tensor:
    # A spike as the two bytes 255 and 1, written as one integer of 16 bits (on little-endian processors).
    rows = spikes.permute(0, 2, 3, 1).contiguous().to(torch.int16)
    twice = rows.mul_(_BASE + 256).view(torch.uint8).permute(0, 3, 1, 2)
    return onednn.convolve_int8(twice, packed, scale, bias, settings)


# --- a GPU ----------------------------------------------------------------------------------------------------


def _runs_on_tensor_cores(weight: Tensor) -> bool:
    """Whether the device of a weight of this type adds up its halves exactly."""
    return weight.is_cuda and weight.dtype == torch.float32 and _tensor_cores_are_exact(weight.device)


@cache
def _tensor_cores_are_exact(device: torch.device) -> bool:
    """Whether TF32 convolutions on `device` add up whole numbers exactly; tried once."""
    drawn = torch.Generator().manual_seed(0)
    settings: Settings = ((1, 1), (1, 1), (1, 1), 1)
    for channels, layout in ((64, torch.contiguous_format), (512, torch.channels_last)):
        numbers = torch.randint(-LARGEST, LARGEST + 1, (32, channels, 3, 3), generator=drawn).double()
        numbers[0], numbers[1] = LARGEST, -LARGEST
        spikes = torch.randint(0, 2, (4, channels, 8, 8), generator=drawn).double()
        spikes[0] = 1
        wanted = [F.conv2d(spikes, half, None, *settings).float() for half in _halves(numbers)]
        weight = torch.cat(_halves(numbers)).float().to(device, memory_format=layout)
        found = _tf32_sums(spikes.float().to(device, memory_format=layout), weight, settings)
        if not torch.equal(found.cpu(), torch.cat(wanted, 1)):
            return False
    return True


def _limbs(numbers: Tensor, weight: Tensor) -> Tensor:
    """The halves of 16-bit integers, all a before all b, in the type and layout of `weight`."""
    layout = torch.channels_last if is_last(weight) else torch.contiguous_format
    return torch.cat(_halves(numbers)).to(weight.dtype).contiguous(memory_format=layout)


def _tf32_sums(spikes: Tensor, limbs: Tensor, settings: Settings) -> Tensor:
    """The convolution in TF32, whatever torch is set to: a setting would reach other threads."""
    stride, padding, dilation, groups = settings
    cudnn = torch.backends.cudnn
    how = (False, [0, 0], groups, False, True, cudnn.enabled, True)
    found: Tensor = torch.ops.aten._convolution.default(spikes, limbs, None, stride, padding, dilation, *how)
    return found


def _on_tensor_cores(spikes: Tensor, limbs: Tensor, scale: Tensor, bias: Tensor | None, settings: Settings) -> Tensor:
    high, low = _tf32_sums(spikes, limbs, settings).chunk(2, 1)
    whole = torch.add(low, high, alpha=_BASE)
    by_channel = scale.view(1, -1, 1, 1)
    return whole.mul_(by_channel) if bias is None else torch.addcmul(bias.view(1, -1, 1, 1), whole, by_channel)
