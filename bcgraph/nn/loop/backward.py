"""Backward through all steps of a feedback loop (paper eq. 4 and 5).

Shapes: the gradient of one step is `[N, C]`, that of all steps `[T*N, C]`, time first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bcgraph.equations.neuron import CURRENT
from bcgraph.nn.loop.calls import Fire, Norm, Product
from bcgraph.nn.loop.forward import Given, Step, blocks_of, written
from bcgraph.nn.neuron.autograd import add_sums
from bcgraph.nn.neuron.kernel import Kernel, Runner
from bcgraph.nn.norm import split

if TYPE_CHECKING:
    from bcgraph.nn.loop.module import Loop


class _Arriving:
    """The gradients of values, by step: what has arrived so far, of which nobody else writes."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.found: dict[str, list[Tensor | None]] = {}

    def of(self, name: str) -> list[Tensor | None]:
        return self.found.setdefault(name, [None] * self.steps)

    def add(self, name: str, t: int, gradient: Tensor) -> None:
        held = self.of(name)
        before = held[t]
        held[t] = gradient if before is None else before + gradient


def backward(given: Given, held: Mapping[str, Tensor], gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The gradients of what a loop was given, in its order; `gradients` are those of its results."""
    loop = given.loop
    known = given.named()
    arriving = _Arriving(loop.steps)
    for name, gradient in zip(loop.results, gradients, strict=True):
        if gradient is not None:
            arriving.found[name] = list(split(gradient.contiguous(), loop.steps))
    found: dict[Any, Tensor | None] = dict.fromkeys(given.keys)
    run: list[tuple[int, Step]] = []
    ends: list[Callable[[], None]] = []
    for call in reversed(loop.calls):
        if isinstance(call, Product):
            step, end = _product_back(call, known, held, arriving, found)
        elif isinstance(call, Norm):
            step, end = _norm_back(call, loop, known, held, arriving, found)
        else:
            step, end = _fire_back(call, loop, known, held, arriving, found)
        run.append((loop.steps if isinstance(call, Fire) else call.steps, step))
        ends.append(end)
    for t in reversed(range(loop.steps)):
        for steps, step in run:
            if t < steps:
                step(t)
    for end in ends:
        end()
    return tuple(found[key] for key in given.keys)


def _sum(found: dict[Any, Tensor | None], key: Any, gradient: Tensor) -> None:
    before = found[key]
    found[key] = gradient if before is None else before + gradient


def _product_back(
    call: Product,
    known: Mapping[Any, Tensor],
    held: Mapping[str, Tensor],
    arriving: _Arriving,
    found: dict[Any, Tensor | None],
) -> tuple[Step, Callable[[], None]]:
    weight = known[call.weight]
    flat = weight.flatten(1)
    x = held[call.reads]
    rows = len(x) // arriving.steps
    given = arriving.of(call.gives)

    def step(t: int) -> None:
        gradient = given[t]
        if gradient is not None:
            there = arriving.of(call.reads)
            before = there[t]
            there[t] = torch.mm(gradient, flat) if before is None else torch.addmm(before, gradient, flat)

    def end() -> None:
        there = [t for t in range(call.steps) if given[t] is not None]
        if not there:
            return
        gradient = torch.cat([g for g in given if g is not None])
        whole = len(there) == call.steps
        read = x[: len(gradient)] if whole else torch.cat([x[t * rows : (t + 1) * rows] for t in there])
        _sum(found, call.weight, torch.mm(gradient.t(), read).view(weight.shape))
        if call.bias is not None:
            _sum(found, call.bias, gradient.sum(0))

    return step, end


def _norm_back(
    call: Norm,
    loop: Loop,
    known: Mapping[Any, Tensor],
    held: Mapping[str, Tensor],
    arriving: _Arriving,
    found: dict[Any, Tensor | None],
) -> tuple[Step, Callable[[], None]]:
    weight = known[call.module, "weight"]
    eps = loop.norms[call.module].eps
    x = split(held[call.reads][: call.steps * (len(held[call.reads]) // _steps(loop, call.reads))], call.steps)
    given = arriving.of(call.gives)
    trained = f"{call.gives}.invstd" in held
    means = held[f"{call.gives}.mean"]
    scales = held[f"{call.gives}.invstd"] if trained else None
    mean, var = (None, None) if trained else (means, held[f"{call.gives}.var"])
    run = torch.ops.aten.native_batch_norm_backward
    affine: list[tuple[Tensor, Tensor]] = []

    def step(t: int) -> None:
        gradient = given[t]
        if gradient is None:
            return
        saved = (means[t], scales[t]) if scales is not None else (None, None)
        to_x, to_weight, to_bias = run(gradient, x[t], weight, mean, var, *saved, trained, eps, [True, True, True])
        arriving.add(call.reads, t, to_x)
        affine.append((to_weight, to_bias))

    def end() -> None:
        if affine:
            for part, values in zip(("weight", "bias"), zip(*affine, strict=True), strict=True):
                _sum(found, (call.module, part), torch.stack(values).sum(0))

    return step, end


def _steps(loop: Loop, name: str) -> int:
    """The steps of a value that a call gives."""
    for call in loop.calls:
        if not isinstance(call, Fire) and call.gives == name:
            return call.steps
    return loop.steps


def _fire_back(
    call: Fire,
    loop: Loop,
    known: Mapping[Any, Tensor],
    held: Mapping[str, Tensor],
    arriving: _Arriving,
    found: dict[Any, Tensor | None],
) -> tuple[Step, Callable[[], None]]:
    steps = loop.steps
    frames = [name for name, _ in call.currents if name in loop.frames]
    inner = [(name, late) for name, late in call.currents if name not in loop.frames]
    kept_values = {key: split(held[f"{call.gives[0]}.{key}"], steps) for key in written(call)}
    states = {key: split(held[value], steps) for key, value in call.states.items() if value in held}
    given = [arriving.of(name) for name in call.gives]
    frame = known[loop.frames[0]]
    rows = len(frame) if loop.frames[0] in loop.steady else len(frame) // steps
    runners: dict[Any, Runner] = {}
    uniforms: dict[str, Tensor | None] = {}
    to_frames: list[Tensor] = []
    places: list[Tensor] = []

    def step(t: int) -> None:
        one: Kernel = call.kernels[1 if t else 0]
        there = [values[t] for values in given]
        arrived = [g for g in there if g is not None]
        if not arrived:
            if to_frames:
                places[t].zero_()
            return
        whole = arrived[0]
        if frames and not to_frames:
            to_frames.append(whole.new_empty((steps * rows, whole.shape[1])))
            to_frames[0][(t + 1) * rows :].zero_()
            places.extend(split(to_frames[0], steps))
        flags = tuple(g is not None for g in there)
        code = one.backward(flags)
        runner = runners.setdefault((t > 0, flags), Runner(code.tape))
        fixed = {key: known[call.port, key] for key in one.uniform}
        before = [_held(key, t, states, kept_values, whole) for key in one.held]
        place = places[t] if frames else torch.empty_like(whole)
        made = {key: torch.empty_like(whole) for key in code.results if key not in code.reduced}
        if CURRENT in made:
            made[CURRENT] = place
        else:
            place.zero_()
        for k in blocks_of(whole):
            reads = [*before, *arrived] if k is None else [v[k] for v in (*before, *arrived)]
            parts = {key: torch.empty_like(reads[-1]) for key in code.reduced}
            results = [parts[key] if key in parts else made[key] if k is None else made[key][k] for key in code.results]
            runner.run([*reads, *(fixed[key] for key in code.uniform), *results], reads[-1])
            for key in parts:
                uniforms.setdefault(key)
            add_sums(uniforms, parts, fixed)
        for key, value in call.states.items():
            if key in made and t:
                arriving.add(value, t - 1, made[key])
        for name, late in inner:
            if late <= t:
                arriving.add(name, t - late, place)

    def end() -> None:
        for key, gradient in uniforms.items():
            if gradient is not None:
                _sum(found, (call.port, key), gradient)
        if not to_frames:
            return
        for name in frames:
            whole = to_frames[0]
            _sum(found, name, whole.view(steps, rows, -1).sum(0) if name in loop.steady else whole)

    return step, end


def _held(
    key: str, t: int, states: Mapping[str, Sequence[Tensor]], others: Mapping[str, Sequence[Tensor]], like: Tensor
) -> Tensor:
    """What a neuron has kept of step t under `key`: a state is that of the step before."""
    if key not in states:
        return others[key][t]
    return states[key][t - 1] if t else torch.zeros_like(like)
