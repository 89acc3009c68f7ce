"""The workspace of inference: memory for spikes and membranes that a compiled module uses again in each call.

A neuron's results are as large as a feature map. Fresh memory costs a page fault every four kilobytes, in each call.
The memory plan says at compile time which values share a slot (see `bcgraph.compiler.targets.fx.memory_plan`). Slots
hold nothing of meaning between calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph.nn.transforms import traced


@dataclass(eq=False)
class _Buffers:
    """The memory of a workspace: slots for so many samples, packed weights by number, and scratch for one weight.

    `integers` are weights that are packed as such and kept as long as they do not change.
    """

    samples: int
    buffers: list[Tensor]
    weights: dict[int, Tensor] = field(default_factory=dict)
    integers: dict[int, Any] = field(default_factory=dict)
    scratch: Tensor | None = None


class Workspace:
    """The memory of one call. It returns to its `Memory` when the last reference is gone (see `held_until`)."""

    def __init__(self, owner: Memory, held: _Buffers) -> None:
        self.owner = owner
        self.held = held

    def take(self, slot: int, shape: tuple[int, ...], last: bool, dtype: torch.dtype) -> Tensor | None:
        """Slot number `slot` as a tensor of `shape`, channels-last with `last`; None where it does not fit."""
        buffer = self.held.buffers[slot]
        size = math.prod(shape)
        if buffer.dtype != dtype or size > buffer.numel():
            return None
        return _shaped(buffer[:size], shape, last)

    def scratch(self, like: Tensor) -> Tensor:
        """Memory of the shape and layout of `like`, until the next call of this."""
        held = self.held.scratch
        if held is None or held.numel() < like.numel() or held.dtype != like.dtype:
            with torch.inference_mode(False):
                held = self.held.scratch = torch.empty(like.numel(), dtype=like.dtype, device="cpu")
        return _shaped(held[: like.numel()], tuple(like.shape), is_last(like))

    def weight(self, number: int, pack: Callable[[], Tensor]) -> Tensor:
        """The result of `pack` for weight number `number`, in the memory of the last call's."""
        # The allocator hands out the memory that is freed here again for the same size.
        self.held.weights.pop(number, None)
        self.held.weights[number] = pack()
        return self.held.weights[number]

    def __del__(self) -> None:
        self.owner.held = self.held


class Memory(nn.Module):
    """The slots of a program: `sizes` are values a sample, `axis` is that of the samples in the module's input.

    Two calls at a time, as from two threads, each get memory of their own, of which one set is kept. Copies and pickles
    of a module hold none.
    """

    held: _Buffers | None

    def __init__(self, sizes: tuple[int, ...], axis: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.axis = axis
        self.held = None

    def forward(self, x: Tensor) -> Workspace | None:
        """Memory for the samples of `x`; None while gradients are on, off the CPU, and while torch traces."""
        if traced() or torch.is_grad_enabled() or x.device.type != "cpu":
            return None
        samples = x.shape[self.axis]
        # One operation, so that only one of two threads takes it.
        held = self.__dict__.pop("held", None)
        self.__dict__.setdefault("held", None)
        if held is None or held.samples < samples or any(b.dtype != x.dtype for b in held.buffers):
            # Tensors of inference mode could not be written outside of it.
            with torch.inference_mode(False):
                held = _Buffers(
                    samples, [torch.empty(size * samples, dtype=x.dtype, device="cpu") for size in self.sizes]
                )
        return Workspace(self, held)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "held": None}


def held_until(result: Tensor, workspace: Workspace | None) -> Tensor:
    """`result`, for which slots of `workspace` were read until now: up to here no other call may have them."""
    del workspace
    return result


def empty(
    workspace: Workspace | None,
    slot: int | None,
    shape: tuple[int, ...],
    last: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """An uninitialized tensor: the slot, where there is one, or fresh memory."""
    found = None if workspace is None or slot is None else workspace.take(slot, shape, last, dtype)
    if found is not None:
        return found
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=device, memory_format=layout)


def _shaped(flat: Tensor, shape: tuple[int, ...], last: bool) -> Tensor:
    if not last:
        return flat.view(shape)
    n, c, h, w = shape
    return flat.view(n, h, w, c).permute(0, 3, 1, 2)


def is_last(x: Tensor) -> bool:
    """Whether `x` is channels-last in memory, and not contiguous as well."""
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
