"""Backward through all steps of a feedback loop (paper eq. 4 and 5).

Shapes: the gradient of one step is `[N, C]`, that of all steps `[T*N, C]`, time first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bcgraph.equations.neuron import CURRENT
from bcgraph.nn.loop.calls import Fire, Norm, Product
from bcgraph.nn.loop.forward import Given, Step, blocks_of, written
from bcgraph.nn.neuron.autograd import add_sums
from bcgraph.nn.neuron.kernel import BackwardTape, Kernel, Runner
from bcgraph.nn.norm import split


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
    """The gradients of what a loop was given, in its order; `gradients` are those of its results.

    `held` is what the forward pass kept.
    """
    found = _Backward(given, held, gradients).run()
    return tuple(found[key] for key in given.keys)


End: TypeAlias = Callable[[], None]
"""What a call does after the last of its steps."""


class _Backward:
    """The backward pass of a loop: `found` are the gradients of what it was given, by name."""

    def __init__(self, given: Given, held: Mapping[str, Tensor], gradients: Sequence[Tensor | None]) -> None:
        self.loop = given.loop
        self.known = given.named()
        self.held = held
        self.found: dict[Any, Tensor | None] = dict.fromkeys(given.keys)
        self.arriving = _Arriving(self.loop.steps)
        for name, gradient in zip(self.loop.results, gradients, strict=True):
            if gradient is not None:
                self.arriving.found[name] = list(split(gradient.contiguous(), self.loop.steps))
        frame = self.known[self.loop.frames[0]]
        self.rows = len(frame) if self.loop.frames[0] in self.loop.steady else len(frame) // self.loop.steps

    def run(self) -> dict[Any, Tensor | None]:
        run: list[tuple[int, Step]] = []
        ends: list[End] = []
        for call in reversed(self.loop.calls):
            if isinstance(call, Product):
                step, end = self.product(call)
            elif isinstance(call, Norm):
                step, end = self.norm(call)
            else:
                step, end = self.fire(call)
            run.append((self.loop.steps if isinstance(call, Fire) else call.steps, step))
            ends.append(end)
        for t in reversed(range(self.loop.steps)):
            for steps, step in run:
                if t < steps:
                    step(t)
        for end in ends:
            end()
        return self.found

    def add(self, key: Any, gradient: Tensor) -> None:
        before = self.found[key]
        self.found[key] = gradient if before is None else before + gradient

    def steps_of(self, name: str) -> tuple[Tensor, ...]:
        """The steps of a value that was kept."""
        whole = self.held[name]
        return split(whole, len(whole) // self.rows)

    def product(self, call: Product) -> tuple[Step, End]:
        weight = self.known[call.weight]
        flat = weight.flatten(1)
        x = self.held[call.reads]
        given = self.arriving.of(call.gives)

        def step(t: int) -> None:
            gradient = given[t]
            if gradient is not None:
                there = self.arriving.of(call.reads)
                before = there[t]
                there[t] = torch.mm(gradient, flat) if before is None else torch.addmm(before, gradient, flat)

        def end() -> None:
            there = [t for t in range(call.steps) if given[t] is not None]
            if not there:
                return
            gradient = torch.cat([g for g in given if g is not None])
            whole = len(there) == call.steps
            read = x[: len(gradient)] if whole else torch.cat([x[t * self.rows : (t + 1) * self.rows] for t in there])
            self.add(call.weight, torch.mm(gradient.t(), read).view(weight.shape))
            if call.bias is not None:
                self.add(call.bias, gradient.sum(0))

        return step, end

    def norm(self, call: Norm) -> tuple[Step, End]:
        weight = self.known[call.module, "weight"]
        eps = self.loop.norms[call.module].eps
        x = self.steps_of(call.reads)
        given = self.arriving.of(call.gives)
        trained = f"{call.gives}.invstd" in self.held
        means = self.held[f"{call.gives}.mean"]
        scales = self.held[f"{call.gives}.invstd"] if trained else None
        mean, var = (None, None) if trained else (means, self.held[f"{call.gives}.var"])
        saved = None if scales is None else list(zip(means.unbind(), scales.unbind(), strict=True))
        # In eval mode no kernel reads the statistics of the batch, but some ask for tensors in their place.
        unused = weight.new_empty(0)
        run = torch.ops.aten.native_batch_norm_backward.default
        every = [True, True, True]
        affine: list[tuple[Tensor, Tensor]] = []

        def step(t: int) -> None:
            gradient = given[t]
            if gradient is None:
                return
            of_step = (unused, unused) if saved is None else saved[t]
            to_x, to_weight, to_bias = run(gradient, x[t], weight, mean, var, *of_step, trained, eps, every)
            self.arriving.add(call.reads, t, to_x)
            affine.append((to_weight, to_bias))

        def end() -> None:
            if affine:
                for part, values in zip(("weight", "bias"), zip(*affine, strict=True), strict=True):
                    self.add((call.module, part), torch.stack(values).sum(0))

        return step, end

    def fire(self, call: Fire) -> tuple[Step, End]:
        steps = self.loop.steps
        frames = [name for name, _ in call.currents if name in self.loop.frames]
        inner = [(name, late) for name, late in call.currents if name not in self.loop.frames]
        kept_values = {key: split(self.held[f"{call.gives[0]}.{key}"], steps) for key in written(call)}
        states = {key: split(self.held[value], steps) for key, value in call.states.items() if value in self.held}
        given = [self.arriving.of(name) for name in call.gives]
        rows = self.rows
        uniforms: dict[str, Tensor | None] = {}
        to_frames: list[Tensor] = []
        places: list[Tensor] = []
        ways: dict[tuple[bool, ...], _Way] = {}
        # The gradient of a state is read at the step before and no more, so two places are enough.
        turns: dict[str, tuple[Tensor, Tensor]] = {}
        zeros: list[Tensor] = []

        def held(key: str, t: int, like: Tensor) -> Tensor:
            """What the neuron has kept of step t under `key`: a state is that of the step before."""
            if key not in states:
                return kept_values[key][t]
            if t:
                return states[key][t - 1]
            zeros[:] = zeros or [torch.zeros_like(like)]
            return zeros[0]

        def step(t: int) -> None:
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
            kind = (t > 0, *(g is not None for g in there))
            way = ways.get(kind)
            if way is None:
                one: Kernel = call.kernels[kind[0]]
                fixed = {key: self.known[call.port, key] for key in one.uniform}
                way = ways[kind] = _Way(one.backward(kind[1:]), one.held, fixed, whole)
                for key in way.elementwise:
                    turns.setdefault(key, (torch.empty_like(whole), torch.empty_like(whole)))
            place = places[t] if frames else torch.empty_like(whole)
            made = {key: turns[key][t % 2] for key in way.elementwise}
            if CURRENT in made:
                made[CURRENT] = place
            else:
                place.zero_()
            way.run([*[held(key, t, whole) for key in way.held], *arrived], made, uniforms)
            for key, value in call.states.items():
                if key in made and t:
                    self.arriving.add(value, t - 1, made[key])
            for name, late in inner:
                if late <= t:
                    self.arriving.add(name, t - late, place)

        def end() -> None:
            for key, gradient in uniforms.items():
                if gradient is not None:
                    self.add((call.port, key), gradient)
            if not to_frames:
                return
            for name in frames:
                whole = to_frames[0]
                self.add(name, whole.view(steps, rows, -1).sum(0) if name in self.loop.steady else whole)

        return step, end


class _Way:
    """The backward pass of a step of a neuron where some of its results have a gradient, on a batch like `like`.

    `elementwise` are the keys of the gradients that it makes but for those that it sums: of uniform values, `fixed`.
    """

    def __init__(self, code: BackwardTape, held: tuple[str, ...], fixed: Mapping[str, Tensor], like: Tensor) -> None:
        self.code = code
        self.held = held
        self.elementwise = tuple(key for key in code.results if key not in code.reduced)
        self.fixed = fixed
        self.uniform = [fixed[key] for key in code.uniform]
        self.runner = Runner(code.tape)
        self.blocks = blocks_of(like)
        # A small batch without sums is one call of the tape's function.
        self.whole = self.blocks == (None,) and not code.reduced
        self.rest = self.runner.fixed(like) if self.whole else []

    def run(self, given: Sequence[Tensor], made: Mapping[str, Tensor], uniforms: dict[str, Tensor | None]) -> None:
        """Write the gradients into `made`, and add those of uniform values to `uniforms`."""
        if self.whole:
            results = [made[key] for key in self.code.results]
            self.code.tape.function(*given, *self.uniform, *results, *self.rest)
            return
        for k in self.blocks:
            reads = given if k is None else [v[k] for v in given]
            parts = {key: torch.empty_like(reads[-1]) for key in self.code.reduced}
            results = [
                parts[key] if key in parts else made[key] if k is None else made[key][k] for key in self.code.results
            ]
            self.runner.run([*reads, *self.uniform, *results], reads[-1])
            for key in parts:
                uniforms.setdefault(key)
            add_sums(uniforms, parts, self.fixed)
