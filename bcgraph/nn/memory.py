"""Memory that inference uses again: where a compiled module keeps its spikes and membranes, call after call.

A neuron's results are as large as a feature map. Fresh memory for each of them costs the system a page fault every four
kilobytes, and the next call pays again. A program says at compile time which values may share a place (see
`bcgraph.compiler.plan`); here the places are. What they hold means nothing between calls.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Rooms:
    """The places of one call. They go back to their `Memory` when the call is over and nobody holds this any more."""

    def __init__(self, owner: Memory, samples: int, buffers: list[Tensor]) -> None:
        self.owner = owner
        self.samples = samples
        self.buffers = buffers

    def take(self, place: int, shape: tuple[int, ...], last: bool, dtype: torch.dtype) -> Tensor | None:
        """Place number `place` as a tensor of `shape`, channels-last with `last`; None where it does not fit."""
        buffer = self.buffers[place]
        size = math.prod(shape)
        if buffer.dtype != dtype or size > buffer.numel():
            return None
        if not last:
            return buffer[:size].view(shape)
        n, c, h, w = shape
        return buffer[:size].view(n, h, w, c).permute(0, 3, 1, 2)

    def __del__(self) -> None:
        self.owner.held = self.samples, self.buffers


class Memory(nn.Module):
    """The places of a program: `sizes` are values a sample, `axis` is that of the samples in the module's input.

    Two calls at a time, as from two threads, each get places of their own, of which one set is kept. Copies and pickles
    of a module hold none.
    """

    held: tuple[int, list[Tensor]] | None

    def __init__(self, sizes: tuple[int, ...], axis: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.axis = axis
        self.held = None

    def forward(self, x: Tensor) -> Rooms | None:
        """The places for the samples of `x`; None while gradients are on, off the CPU, and while torch traces."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or x.device.type != "cpu":
            return None
        samples = x.shape[self.axis]
        # One operation, so that of two threads only one can have them.
        held = self.__dict__.pop("held", None)
        self.__dict__.setdefault("held", None)
        if held is None or held[0] < samples or any(b.dtype != x.dtype for b in held[1]):
            # Tensors of inference mode could not be written outside of it.
            with torch.inference_mode(False):
                held = samples, [torch.empty(size * samples, dtype=x.dtype) for size in self.sizes]
        return Rooms(self, *held)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "held": None}


def empty(
    rooms: Rooms | None, place: int | None, shape: tuple[int, ...], last: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """An uninitialized tensor: the place, where there is one, or fresh memory."""
    found = None if rooms is None or place is None else rooms.take(place, shape, last, dtype)
    if found is not None:
        return found
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=device, memory_format=layout)


def is_last(x: Tensor) -> bool:
    """Whether `x` lies channels-last in memory, and not in the usual order as well."""
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
