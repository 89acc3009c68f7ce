"""Neurons for autograd: what they keep for the backward pass, and the derived gradients (paper eq. 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bcgraph.equations.neuron import CURRENT
from bcgraph.nn.neuron.kernel import BackwardTape, Kernel, Scratch, add_up, blocks, empty_steps
from bcgraph.nn.norm import split
from bcgraph.nn.transforms import first_order


def one_step(
    kernel: Kernel, currents: Sequence[Tensor], states: Sequence[Tensor], uniforms: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """What one step gives. Keeps the values in `kernel.held`."""
    found: tuple[Tensor, ...] = _Step.apply(kernel, len(currents), *currents, *states, *uniforms)
    return found


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Kernel, terms: int, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.kernel, ctx.terms = kernel, terms
        currents, states = values[:terms], values[terms : terms + len(kernel.states)]
        uniforms = values[terms + len(states) :]
        like = currents[0]
        given = tuple(torch.empty_like(like) for _ in kernel.after)
        written = tuple(torch.empty_like(like) for _ in kernel.written)
        total = torch.empty_like(like) if terms > 1 and CURRENT in kernel.held else None
        code = kernel.keeping
        scratch = Scratch(code)
        for k in blocks(like):
            now = add_up(currents, k, None if total is None else total[k])
            places = [now, *(v[k] for v in states), *uniforms, *(v[k] for v in (*given, *written))]
            code.run([*places, *scratch.of(now)], now)
        sources = dict(zip((CURRENT, *kernel.states), (like if total is None else total, *states), strict=True))
        sources.update(zip(kernel.written, written, strict=True))
        ctx.save_for_backward(*(sources[key] for key in kernel.held), *uniforms)
        return given

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        kernel: Kernel = ctx.kernel
        code = kernel.backward(tuple(g is not None for g in gradients))
        saved = ctx.saved_tensors
        held = saved[: len(kernel.held)]
        uniforms = dict(zip(kernel.uniform, saved[len(kernel.held) :], strict=True))
        arrived = [g for g in gradients if g is not None]
        found: dict[str, Tensor | None] = dict.fromkeys((CURRENT, *kernel.states, *kernel.uniform))
        if arrived:
            like = (*held, *arrived)[0]
            found.update({key: torch.empty_like(like) for key in code.results if key not in code.reduced})
            sums = Sums(code, uniforms)
            scratch, full = Scratch(code.tape), _Full(code)
            for k in blocks(like):
                block = like[k]
                parts = full.of(block)
                results = [parts[key] if key in parts else _there(found[key])[k] for key in code.results]
                places = [*(v[k] for v in (*held, *arrived)), *(uniforms[key] for key in code.uniform), *results]
                code.tape.run([*places, *scratch.of(block)], block)
                sums.add(parts)
            found.update(sums.found)
            for key, value in code.constant:
                if value and key not in kernel.uniform:
                    found[key] = torch.full_like(like, value)
        to_current = found[CURRENT]
        states = (found[key] for key in kernel.states)
        return (None, None, *[to_current] * ctx.terms, *states, *(found[key] for key in kernel.uniform))


def _there(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


class Sums:
    """Gradients of uniform values: sums over the elements of all blocks, or over those of each channel."""

    def __init__(self, code: BackwardTape, uniforms: dict[str, Tensor]) -> None:
        self.shapes = {key: uniforms[key].shape for key in code.reduced}
        self.found: dict[str, Tensor | None] = {}

    def add(self, parts: dict[str, Tensor]) -> None:
        """Add the gradients of one block."""
        for key, part in parts.items():
            shape = self.shapes[key]
            more = part.sum([0, *range(2, part.dim())]).view(shape) if shape else part.sum()
            before = self.found.get(key)
            self.found[key] = more if before is None else before + more


class _Full:
    """Memory for gradients of uniform values before they are summed."""

    def __init__(self, code: BackwardTape) -> None:
        self.keys = code.reduced
        self.held: dict[str, Tensor] = {}

    def of(self, like: Tensor) -> dict[str, Tensor]:
        if not self.held:
            self.held = {key: torch.empty_like(like) for key in self.keys}
        return {key: each[: like.shape[0]] for key, each in self.held.items()}


# --- all steps ------------------------------------------------------------------------------------------------


def all_steps(
    kernels: Sequence[Kernel], current: Tensor, repeated: bool, names: Sequence[str], uniforms: Sequence[Tensor]
) -> Tensor:
    """The spikes of all steps `[T*N, ...]`, for the kernel of each step; `names` are those of the uniform values."""
    found: Tensor = _Steps.apply(tuple(kernels), repeated, tuple(names), current, *uniforms)
    return found


def _keeps_one(kernels: Sequence[Kernel]) -> bool:
    """Whether every step can be told apart from one value that it keeps."""
    alone = all(len(k.held) <= 1 and not set(k.held) & set(k.states) for k in kernels)
    return alone and any(k.written for k in kernels)


class _Steps(torch.autograd.Function):
    """All steps of a layer without feedback.

    Where one value a step is enough for the backward pass (the membrane u of a LIF layer), that is kept. Otherwise the
    currents are, and the backward pass computes all steps of a block again before it runs through them backward.
    """

    @staticmethod
    def forward(
        ctx: Any, kernels: tuple[Kernel, ...], repeated: bool, names: Sequence[str], current: Tensor, *uniforms: Tensor
    ) -> Tensor:
        steps = len(kernels)
        ctx.kernels, ctx.repeated, ctx.names = kernels, repeated, names
        fixed = dict(zip(names, uniforms, strict=True))
        given = (current,) * steps if repeated else split(current, steps)
        s = empty_steps(given[0], steps)
        if _keeps_one(kernels):
            held = empty_steps(given[0], steps)
            run_steps(kernels, given, fixed, split(s, steps), split(held, steps))
            ctx.save_for_backward(held, *uniforms)
        else:
            run_steps(kernels, given, fixed, split(s, steps))
            ctx.save_for_backward(current, *uniforms)
        return s

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kernels: tuple[Kernel, ...] = ctx.kernels
        steps, one = len(kernels), _keeps_one(kernels)
        held, *saved = ctx.saved_tensors
        uniforms = dict(zip(ctx.names, saved, strict=True))
        to_spikes = split(gradients[0], steps)
        alone = ctx.repeated and not one
        parts = (held,) * steps if alone else split(held, steps)
        like = to_spikes[0]
        result = torch.zeros_like(like) if ctx.repeated else empty_steps(like, steps)
        results = (result,) * steps if ctx.repeated else split(result, steps)
        found: dict[str, Tensor | None] = dict.fromkeys(ctx.names)
        for k in blocks(like, 1 if one else steps):
            before = [[p[k]] if kernels[t].held else [] for t, p in enumerate(parts)] if one else None
            if before is None:
                before = _again(kernels, [p[k] for p in parts], uniforms)
            _backward_block(
                kernels, before, [g[k] for g in to_spikes], uniforms, [r[k] for r in results], ctx.repeated, found
            )
        return (None, None, None, result, *(found[key] for key in ctx.names))


def _again(kernels: Sequence[Kernel], given: Sequence[Tensor], uniforms: dict[str, Tensor]) -> list[list[Tensor]]:
    """What each step of a block keeps, computed again."""
    kept: list[list[Tensor]] = []
    states: dict[str, Tensor] = {}
    for t, kernel in enumerate(kernels):
        code = kernel.keeping
        now = given[t]
        after = [torch.empty_like(now) for _ in kernel.after]
        written = [torch.empty_like(now) for _ in kernel.written]
        before = [states[key] for key in kernel.states]
        fixed = [uniforms[key] for key in kernel.uniform]
        code.run([now, *before, *fixed, *after, *written, *code.memory(now)], now)
        values = {CURRENT: now, **states, **dict(zip(kernel.written, written, strict=True))}
        kept.append([values[key] for key in kernel.held])
        states = {f"{name}@-1": value for name, value in zip(kernel.after, after, strict=True)}
    return kept


def _backward_block(
    kernels: Sequence[Kernel],
    held: Sequence[Sequence[Tensor]],
    to_spikes: Sequence[Tensor],
    uniforms: dict[str, Tensor],
    results: Sequence[Tensor],
    repeated: bool,
    found: dict[str, Tensor | None],
) -> None:
    """Run backward through the steps of one block; add gradients of uniform values to `found`."""
    arriving: dict[str, Tensor] = {}
    like = to_spikes[0]
    for t in reversed(range(len(kernels))):
        kernel = kernels[t]
        names = kernel.after
        have = {"s": to_spikes[t], **arriving}
        code = kernel.backward(tuple(name in have for name in names))
        made = {key: torch.empty_like(like) for key in code.results if key != CURRENT or repeated}
        if not repeated and CURRENT in code.results:
            made[CURRENT] = results[t]
        values = [*held[t], *(have[name] for name in names if name in have)]
        values += [uniforms[key] for key in code.uniform]
        code.tape.run([*values, *(made[key] for key in code.results), *code.tape.memory(like)], like)
        if repeated and CURRENT in made:
            results[t].add_(made[CURRENT])
        constant = dict(code.constant)
        if CURRENT in constant and not repeated:
            results[t].fill_(constant[CURRENT])
        elif CURRENT in constant:
            results[t].add_(constant[CURRENT])
        sums = Sums(code, uniforms)
        sums.found = {key: found[key] for key in code.reduced if found[key] is not None}
        sums.add({key: made[key] for key in code.reduced})
        found.update(sums.found)
        arriving = {key.removesuffix("@-1"): made[key] for key in kernel.states if key in made}


def run_steps(
    kernels: Sequence[Kernel],
    given: Sequence[Tensor],
    uniforms: Mapping[str, Tensor],
    spikes: Sequence[Tensor],
    held: Sequence[Tensor] | None = None,
) -> None:
    """All steps of each block before the next block, so that the states never leave the cache.

    Writes into `spikes` and, where given, the one value that each step keeps into `held`.
    """
    names = kernels[0].after[1:]
    scratches = {id(kernel): Scratch(kernel.forward if held is None else kernel.keeping) for kernel in kernels}
    pairs: list[list[Tensor]] = []
    for k in blocks(given[0]):
        first = given[0][k]
        if not pairs:
            # The next values of states must not go where those of before are still read.
            pairs = [[torch.empty_like(first) for _ in names] for _ in range(1 if held is None else 2)]
        states = [[each[: first.shape[0]] for each in pair] for pair in pairs]
        before: dict[str, Tensor] = {}
        for t, kernel in enumerate(kernels):
            code = kernel.forward if held is None else kernel.keeping
            after = states[t % len(states)]
            now = given[t][k]
            places = [now, *(before[key] for key in kernel.states), *(uniforms[key] for key in kernel.uniform)]
            places += [spikes[t][k], *after[: len(kernel.after) - 1]]
            if held is not None and kernel.written:
                places.append(held[t][k])
            elif held is not None and kernel.held:
                held[t][k].copy_(now)
            code.run([*places, *scratches[id(kernel)].of(now)], now)
            before = {f"{name}@-1": value for name, value in zip(kernel.after[1:], after, strict=False)}
