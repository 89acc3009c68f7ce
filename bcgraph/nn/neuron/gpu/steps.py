"""All steps of a layer without feedback: one kernel runs several, and hands the states to the one that runs the next.

A kernel's text is as long as it has steps, and states stay in registers. Between kernels they are in memory, in the
type of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import torch
from torch import Tensor

from bcgraph.nn.neuron.gpu import source
from bcgraph.nn.neuron.gpu.launch import (
    BLOCK,
    by_channel,
    dense,
    grid_of,
    kept_by,
    laid_as,
    laid_out,
    name_of,
    order_of,
    summands,
    summed_up,
)
from bcgraph.nn.neuron.kernel import Kernel
from bcgraph.nn.precision import arithmetic, membranes

LONGEST = 16
"""Steps of a kernel. The time to build it grows faster than they do."""

LONGEST_AGAIN = 8
"""The same where the backward pass computes the steps again: it has the values of all of them at once."""

SMALLER = 256
"""Elements of a program of that pass; with more, what a thread holds no longer fits into its registers."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Steps of one kernel: those of `kernels`, from step `first`. It reads the states `starts` and writes `ends`."""

    kernels: tuple[Kernel, ...]
    first: int
    starts: tuple[str, ...]
    ends: tuple[str, ...]

    def of(self, x: Tensor, samples: int) -> Tensor:
        """The part of a tensor of all steps, `samples` each."""
        return x.narrow(0, self.first * samples, len(self.kernels) * samples)


@cache
def chunks(kernels: tuple[Kernel, ...], longest: int) -> tuple[Chunk, ...]:
    """All steps, in order, up to `longest` to a kernel."""
    places = range(0, len(kernels), longest)
    parts = [kernels[t : t + longest] for t in places]
    starts = [(), *(part[0].states for part in parts[1:])]
    return tuple(map(Chunk, parts, places, starts, [*starts[1:], ()]))


@dataclass(frozen=True, slots=True)
class Steps:
    """The spikes of all steps `[T*N, ...]`, and what a backward pass needs: `held`, and the states between kernels.

    `bits` are the spikes of each step, `[T, bytes]`, where what is held is rounded.
    """

    spikes: Tensor
    held: Tensor
    between: tuple[Tensor, ...]
    bits: Tensor | None = None


def all_steps(
    kernels: tuple[Kernel, ...],
    currents: Sequence[Tensor],
    repeated: bool,
    uniforms: Mapping[str, Tensor],
    *,
    keeps: bool,
    again: bool,
) -> Steps:
    """All steps of currents `[T*N, ...]`, or with `repeated` of `[N, ...]` at every step.

    For a backward pass, held is with `keeps` the value that each step keeps. With `again` it is the sum of the
    currents, since that pass computes the steps again.
    """
    current = dense(currents[0])
    samples = current.shape[0] // (1 if repeated else len(kernels))
    like = current[:samples]
    wide = arithmetic(like.dtype)
    s = _steps_like(like, len(kernels), like.dtype)
    kind = kept_in(kernels, like) if keeps else wide
    held = _steps_like(like, len(kernels), kind) if keeps else current
    packs = keeps and kind != membranes(like)
    bits = like.new_empty(len(kernels), -(-like.numel() // 8), dtype=torch.uint8) if packs else None
    total = again and len(currents) > 1
    if total:
        # As exact as it was summed.
        held = torch.empty_like(current, dtype=wide)
    laid = [current, *(laid_as(each, current) for each in currents[1:])]
    channels, grid = by_channel(uniforms), grid_of(like)
    states: list[Tensor] = []
    between: list[Tensor] = []
    for chunk in chunks(kernels, LONGEST_AGAIN if again else LONGEST):
        sums = total and not (repeated and chunk.first)
        text = source.steps(
            chunk.kernels,
            chunk.starts,
            chunk.ends,
            len(currents),
            tuple(uniforms),
            channels,
            name_of(like),
            repeated,
            keeps,
            sums,
            packs,
        )
        places = laid if repeated else [chunk.of(each, samples) for each in laid]
        places = [*places, chunk.of(s, samples)]
        if keeps or sums:
            places.append(held if repeated and not keeps else chunk.of(held, samples))
        if bits is not None:
            places.append(chunk.of(bits, 1))
        after = [torch.empty_like(like, dtype=wide) for _ in chunk.ends]
        grid.run(text, *places, *states, *uniforms.values(), *after)
        states = after
        between += after if again else []
    return Steps(s, held, tuple(between), bits)


def kept_in(kernels: tuple[Kernel, ...], current: Tensor) -> torch.dtype:
    """The type in which the steps keep values: the widest of all, since they are in one tensor."""
    return max((kept_by(kernel, current) for kernel in kernels if kernel.held), key=lambda kind: kind.itemsize)


def all_steps_backward(
    kernels: tuple[Kernel, ...],
    held: Tensor,
    between: Sequence[Tensor],
    repeated: bool,
    uniforms: Mapping[str, Tensor],
    keeps: bool,
    arrived: Tensor,
    bits: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradients of the current and of the uniform values, from what `all_steps` held."""
    samples = arrived.shape[0] // len(kernels)
    like = held[:samples]
    arrived = arrived if arrived.stride() == held.stride() else laid_out(arrived, like)
    wide = arithmetic(like.dtype)
    channels, grid = by_channel(uniforms), grid_of(like, BLOCK if keeps else SMALLER)
    result = torch.empty_like(like if repeated else arrived, dtype=arrived.dtype)
    whole: Tensor | None = None
    sums: dict[str, Tensor] = {}
    to_states: dict[str, Tensor] = {}
    parts = chunks(kernels, LONGEST if keeps else LONGEST_AGAIN)
    for chunk, states in reversed(_with_states(parts, between)):
        arriving = tuple(to_states)
        leaving = source.leaving(chunk.kernels, arriving) if chunk.starts else ()
        text = source.steps_backward(
            chunk.kernels,
            chunk.starts,
            arriving,
            tuple(uniforms),
            channels,
            name_of(like),
            repeated,
            keeps,
            bits is not None,
        )
        kept = held if repeated and not keeps else chunk.of(held, samples)
        part = torch.empty_like(like, dtype=wide) if repeated else chunk.of(result, samples)
        before = {name: torch.empty_like(like, dtype=wide) for name in leaving}
        found = {key: summands(like, grid, key in channels) for key in uniforms}
        packed = [] if bits is None else [chunk.of(bits, 1)]
        places = [kept, chunk.of(arrived, samples), part, *packed, *states, *to_states.values()]
        grid.run(text, *places, *uniforms.values(), *before.values(), *found.values())
        to_states = before
        if repeated:
            whole = part if whole is None else whole + part
        for key, value in found.items():
            more = summed_up(value, uniforms[key])
            sums[key] = sums[key] + more if key in sums else more
    return result if whole is None else whole.to(result.dtype), sums


def _with_states(parts: Sequence[Chunk], between: Sequence[Tensor]) -> list[tuple[Chunk, Sequence[Tensor]]]:
    """Each chunk with the states that it starts from, where they are kept."""
    ends = list(accumulate(len(part.starts) for part in parts))
    return [(part, between[end - len(part.starts) : end]) for part, end in zip(parts, ends, strict=True)]


def _steps_like(like: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    shape = (steps * like.shape[0], *like.shape[1:])
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=order_of(like))
