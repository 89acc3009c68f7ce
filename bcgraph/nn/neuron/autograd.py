"""Neurons for autograd: what they keep for the backward pass, and the derived gradients (paper eq. 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bcgraph.equations.neuron import CURRENT
from bcgraph.nn.neuron.gpu import launch
from bcgraph.nn.neuron.gpu import steps as gpu_steps
from bcgraph.nn.neuron.kernel import Kernel, Runner, Scratch, add_up, blocks, empty_steps, run_block
from bcgraph.nn.norm import split
from bcgraph.nn.precision import membranes
from bcgraph.nn.transforms import first_order


def one_step(
    kernel: Kernel, currents: Sequence[Tensor], states: Sequence[Tensor], uniforms: Sequence[Tensor], packs: bool
) -> tuple[Tensor, ...]:
    """What one step gives. Keeps the values in `kernel.held`.

    On a GPU a current but the first may have a smaller map (see `launch.step`), and with `packs` the spikes come once
    more, as bits.
    """
    found: tuple[Tensor, ...] = _Step.apply(kernel, len(currents), packs, *currents, *states, *uniforms)
    return found


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Kernel, terms: int, packs: bool, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.kernel = kernel
        currents, states = values[:terms], values[terms : terms + len(kernel.states)]
        uniforms = values[terms + len(states) :]
        like = currents[0]
        ctx.current, ctx.wide, ctx.rounded = like.dtype, membranes(like), False
        ctx.shapes = [current.shape for current in currents]
        if launch.usable(like):
            found = launch.step(kernel, currents, states, uniforms, keeps=True, packs=packs)
            ctx.rounded = found.kept != ctx.wide
            if ctx.rounded:
                # In the order of the current, as the bits are.
                states = tuple(launch.laid_as(state.to(found.kept), found.summed) for state in states)
            bits = (found.bits,) if ctx.rounded else ()
            _keep(ctx, kernel, found.summed, states, found.written, uniforms, bits)
            if not packs:
                return found.given
            ctx.mark_non_differentiable(found.bits)
            return (*found.given, found.bits)
        given = tuple(torch.empty_like(like) for _ in kernel.after)
        written = tuple(torch.empty_like(like) for _ in kernel.written)
        total = torch.empty_like(like) if terms > 1 and CURRENT in kernel.held else None
        runner = Runner(kernel.keeping)
        for k in blocks(like):
            now = add_up(currents, k, None if total is None else total[k])
            runner.run([now, *(v[k] for v in states), *uniforms, *(v[k] for v in (*given, *written))], now)
        _keep(ctx, kernel, like if total is None else total, states, written, uniforms)
        return given

    @staticmethod
    @first_order
    def backward(ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
        kernel: Kernel = ctx.kernel
        # Bits have none.
        gradients = arriving[: len(kernel.after)]
        there = tuple(g is not None for g in gradients)
        saved = ctx.saved_tensors
        held, others = saved[: len(kernel.held)], saved[len(kernel.held) :]
        uniforms = dict(zip(kernel.uniform, others, strict=False))
        bits = others[-1] if ctx.rounded else None
        arrived = [g for g in gradients if g is not None]
        found: dict[str, Tensor | None] = dict.fromkeys((CURRENT, *kernel.states, *kernel.uniform))
        if arrived and launch.usable(arrived[0]):
            found.update(launch.step_backward(kernel, there, held, arrived, uniforms, ctx.current, ctx.wide, bits))
        elif arrived:
            code = kernel.backward(there)
            like = (*held, *arrived)[0]
            full = {key: torch.empty_like(like) for key in code.results if key not in code.reduced}
            runner = Runner(code.tape)
            for k in blocks(like):
                block = like[k]
                parts = {key: torch.empty_like(block) for key in code.reduced}
                results = [parts[key] if key in parts else full[key][k] for key in code.results]
                places = [*(v[k] for v in (*held, *arrived)), *(uniforms[key] for key in code.uniform), *results]
                runner.run(places, block)
                add_sums(found, parts, uniforms)
            found.update(full)
        to_current = found[CURRENT]
        states = (found[key] for key in kernel.states)
        currents = (None if to_current is None else shrunk(to_current, shape) for shape in ctx.shapes)
        return (None, None, None, *currents, *states, *(found[key] for key in kernel.uniform))


def shrunk(gradient: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of a smaller map from that of its nearest enlargement: the sum over what each value became."""
    if gradient.shape == shape:
        return gradient
    (h, w), (rows, columns) = shape[-2:], gradient.shape[-2:]
    return gradient.view(*shape[:-2], h, rows // h, w, columns // w).sum((-3, -1))


def _keep(
    ctx: Any,
    kernel: Kernel,
    current: Tensor,
    states: Sequence[Tensor],
    written: Sequence[Tensor],
    uniforms: Sequence[Tensor],
    bits: tuple[Tensor, ...] = (),
) -> None:
    """Save the values in `kernel.held`, the uniform values, and `bits`."""
    sources = dict(zip((CURRENT, *kernel.states), (current, *states), strict=True))
    sources.update(zip(kernel.written, written, strict=True))
    ctx.save_for_backward(*(sources[key] for key in kernel.held), *uniforms, *bits)


def add_sums(found: dict[str, Tensor | None], parts: Mapping[str, Tensor], uniforms: Mapping[str, Tensor]) -> None:
    """Add to the gradients of uniform values those of one block: sums over all elements, or over those of a channel."""
    for key, part in parts.items():
        shape = uniforms[key].shape
        more = part.sum([0, *range(2, part.dim())]).view(shape) if shape else part.sum()
        before = found[key]
        found[key] = more if before is None else before + more


# --- all steps ------------------------------------------------------------------------------------------------


def all_steps(
    kernels: Sequence[Kernel],
    currents: Sequence[Tensor],
    repeated: bool,
    names: Sequence[str],
    uniforms: Sequence[Tensor],
) -> Tensor:
    """The spikes of all steps `[T*N, ...]`, for the kernel of each step; `names` are those of the uniform values.

    Several currents are added up in a kernel of a GPU.
    """
    found: Tensor = _Steps.apply(tuple(kernels), repeated, tuple(names), len(currents), *currents, *uniforms)
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
        ctx: Any, kernels: tuple[Kernel, ...], repeated: bool, names: Sequence[str], terms: int, *values: Tensor
    ) -> Tensor:
        steps, one = len(kernels), _keeps_one(kernels)
        currents, uniforms = values[:terms], values[terms:]
        current = currents[0]
        ctx.kernels, ctx.repeated, ctx.names, ctx.terms = kernels, repeated, names, terms
        fixed = dict(zip(names, uniforms, strict=True))
        if launch.usable(current):
            made = gpu_steps.all_steps(kernels, currents, repeated, fixed, keeps=one, again=not one)
            # Both are never there: states are between kernels where steps are computed again.
            ctx.rounded = made.bits is not None
            ctx.save_for_backward(made.held, *uniforms, *made.between, *(() if made.bits is None else (made.bits,)))
            return made.spikes
        given = (current,) * steps if repeated else split(current, steps)
        s = empty_steps(given[0], steps)
        if one:
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
        fixed, between = saved[: len(ctx.names)], saved[len(ctx.names) :]
        uniforms = dict(zip(ctx.names, fixed, strict=True))
        if launch.usable(gradients[0]):
            bits = between.pop() if ctx.rounded else None
            to_current, sums = gpu_steps.all_steps_backward(
                kernels, held, between, ctx.repeated, uniforms, one, gradients[0], bits
            )
            return (None, None, None, None, *[to_current] * ctx.terms, *(sums[key] for key in ctx.names))
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
        return (None, None, None, None, result, *(found[key] for key in ctx.names))


def _again(kernels: Sequence[Kernel], given: Sequence[Tensor], uniforms: dict[str, Tensor]) -> list[list[Tensor]]:
    """What each step of a block keeps, computed again."""
    kept: list[list[Tensor]] = []
    runners = {kernel: Runner(kernel.keeping) for kernel in kernels}
    states = {key: torch.zeros_like(given[0]) for key in kernels[0].states}
    for t, kernel in enumerate(kernels):
        now = given[t]
        after = [torch.empty_like(now) for _ in kernel.after]
        written = [torch.empty_like(now) for _ in kernel.written]
        before = [states[key] for key in kernel.states]
        fixed = [uniforms[key] for key in kernel.uniform]
        runners[kernel].run([now, *before, *fixed, *after, *written], now)
        values = {CURRENT: now, **states, **dict(zip(kernel.written, written, strict=True))}
        kept.append([values[key] for key in kernel.held])
        states = dict(zip(kernel.next, after, strict=True))
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
        Runner(code.tape).run([*values, *(made[key] for key in code.results)], like)
        if CURRENT not in code.results and not repeated:
            results[t].zero_()
        elif CURRENT in code.results and repeated:
            results[t].add_(made[CURRENT])
        add_sums(found, {key: made[key] for key in code.reduced}, uniforms)
        arriving = {
            name: made[key] for name, key in zip(kernel.equations.states, kernel.states, strict=True) if key in made
        }


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
    count = len(kernels[0].after) - 1
    runners = {kernel: Runner(kernel.forward if held is None else kernel.keeping) for kernel in kernels}
    # A tape that keeps values does not look after results in the memory of operands.
    memory = [
        Scratch(lambda like: [torch.empty_like(like) for _ in range(count)]) for _ in range(1 + (held is not None))
    ]
    for k in blocks(given[0]):
        states = [each.of(given[0][k]) for each in memory]
        kept = None if held is None else [h[k] for h in held]
        run_block(kernels, runners, (g[k] for g in given), uniforms, [s[k] for s in spikes], states, kept)
