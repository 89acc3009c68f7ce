"""Kernels: what a neuron computes in one step or in all of them, derived from its equations.

Shapes: one step of one layer is `[N, C, H, W]` or `[N, F]`. Elementwise code runs block by block: a block of the batch
stays in a core's cache from the first operation to the last, so each large tensor crosses the memory bus once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from bcgraph.equations.derivative import GRADIENT, backward
from bcgraph.equations.expression import Read
from bcgraph.equations.flat import Builder, Flat, Leaf, Line, flattened
from bcgraph.equations.kept import kept, recomputed
from bcgraph.equations.neuron import CURRENT, SPIKES, Equations
from bcgraph.nn.neuron.plain import Plain, function
from bcgraph.nn.neuron.tape import Tape, tape
from bcgraph.nn.precision import membranes

# Elements of a block: 2**18 float32 values are 1 MiB. Larger blocks fared alike on 2 MiB of L2 cache.
BLOCK = 1 << 18

# Results of a convolution that its neuron reads at a time. Smaller pieces cost the convolution more than they save.
PIECE = 1 << 19


@dataclass(frozen=True, slots=True)
class BackwardTape:
    """The backward pass of one step for some given gradients: its tape, and what it gives.

    Places of the tape: what the step has kept, the given gradients, the values in `uniform`, then `results`: the
    gradients of current, states and uniform values that are not zero. Those in `reduced`, of uniform values, are still
    to be summed over the elements.
    """

    tape: Tape
    uniform: tuple[str, ...]
    results: tuple[str, ...]
    reduced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gradients:
    """The backward pass of one step for some given gradients, as flat code.

    `lines` read what the step has kept, the gradients `arriving` of the results `names`, and the values in `uniform`.
    `results` are the gradients of current, states and uniform values that are not zero. `spiked` says that the lines
    read the spikes, which are then no recomputed values.
    """

    lines: tuple[Line, ...]
    results: tuple[tuple[str, Leaf], ...]
    names: tuple[str, ...]
    arriving: tuple[str, ...]
    uniform: tuple[str, ...]
    spiked: bool = False


class Kernel:
    """Everything about running one set of equations. Made once for equal equations, by `kernel`."""

    def __init__(self, equations: Equations) -> None:
        self.equations = equations
        self.flat: Flat = flattened(equations)
        self.uniform: tuple[str, ...] = equations.fixed
        self.states: tuple[str, ...] = tuple(Read(name, 1).key for name in equations.states)
        self.after: tuple[str, ...] = equations.gives
        self.next: tuple[str, ...] = tuple(Read(name, 1).key for name in equations.gives)
        """What the next step calls the values in `after`."""
        # Made here and not when they are first read: torch.compile traces what reads them, and takes no lock.
        self.plain: Plain = self._plain()
        """All equations as torch's own operations: current, states, uniform values in, what it gives out."""
        self.prologue: Plain = self._prologue()
        """The uniform values that the rest reads, from the learned parameters."""

    def _plain(self) -> Plain:
        inputs = (CURRENT, *self.states, *self.uniform)
        return function(self.flat.lines, [leaf for _, leaf in self.flat.results], inputs, self.uniform)

    def _prologue(self) -> Plain:
        builder = Builder()
        known = dict(self.equations.uniform)
        wanted = [builder.flat(known.get(key, Read(key))) for key in self.uniform]
        return function(builder.lines, wanted, [each.name for each in self.equations.learned])

    def uniforms(self, learned: Sequence[Tensor], like: Tensor) -> list[Tensor]:
        """The uniform values for a current like `like`; those by channel are shaped to broadcast over it."""
        if not self.uniform:
            return []
        return [u.to(membranes(like)) for u in self.prologue(*(shaped(p, like) for p in learned))]

    @cached_property
    def over(self) -> dict[str, str]:
        """The next value of a state may take the memory of the one before."""
        return {name: Read(name, 1).key for name in self.equations.gives if name in self.equations.states}

    @cached_property
    def forward(self) -> Tape:
        """One step. Places: current, states, uniform values, then what it gives."""
        return self._forward((), ())

    @cached_property
    def forward_over(self) -> Tape:
        """One step that may write over its current."""
        return self._forward((), (CURRENT,))

    def _forward(self, held: tuple[str, ...], consumed: tuple[str, ...]) -> Tape:
        results = [(f"new {name}", leaf) for name, leaf in self.flat.results]
        results += [(f"held {key}", Read(key)) for key in held]
        over = {f"new {name}": before for name, before in self.over.items()}
        return tape(
            self.flat.lines,
            results,
            (CURRENT, *self.states),
            uniform=self.uniform,
            over={} if held else over,
            consumed=consumed,
        )

    @cached_property
    def held(self) -> tuple[str, ...]:
        """What a forward pass keeps, for gradients of all that it gives."""
        return kept(self.flat, backward(self.flat, self.after).wanted)

    @cached_property
    def keeping(self) -> Tape:
        """One step that also gives the values in `held` that are computed in it."""
        return self._forward(self.written, ())

    @cached_property
    def written(self) -> tuple[str, ...]:
        """The values in `held` that the step computes; the others are its current and states."""
        return tuple(key for key in self.held if key != CURRENT and key not in self.states)

    @cached_property
    def spikes(self) -> str | None:
        """The key of the spikes, where they are 0 or 1 and computed here, so that a bit holds one."""
        sent = dict(self.flat.results)[SPIKES]
        computed = isinstance(sent, Read) and any(line.name == sent.key for line in self.flat.lines)
        return sent.key if computed and isinstance(sent, Read) and self.equations.binary else None

    @cached_property
    def reads_spikes(self) -> bool:
        """Whether a backward pass from rounded values reads the spikes."""
        return self.gradients((True,) * len(self.after), rounded=True).spiked

    @cached_property
    def rounds(self) -> bool:
        """Whether the values in `held` may be rounded: a rounded membrane may lie on the other side of the threshold,
        so the backward pass must have the spikes themselves.
        """
        return self.spikes is not None and bool(self.held)

    @cached_property
    def _backwards(self) -> dict[tuple[bool, ...], BackwardTape]:
        return {}

    def backward(self, given: tuple[bool, ...]) -> BackwardTape:
        """The backward pass where `given` says which results have a gradient."""
        found = self._backwards.get(given)
        if found is None:
            found = self._backwards[given] = self._backward(given)
        return found

    @cached_property
    def _gradients(self) -> dict[tuple[tuple[bool, ...], bool], Gradients]:
        return {}

    def gradients(self, given: tuple[bool, ...], *, rounded: bool = False) -> Gradients:
        """The flat code of the backward pass where `given` says which results have a gradient.

        Where what is held is `rounded`, the spikes are read and not computed again.
        """
        found = self._gradients.get((given, rounded))
        if found is None:
            found = self._gradients[given, rounded] = self._gradients_of(given, rounded)
        return found

    def _gradients_of(self, given: tuple[bool, ...], rounded: bool) -> Gradients:
        names = tuple(name for name, there in zip(self.after, given, strict=True) if there)
        code = backward(self.flat, names)
        held = (*self.held, self.spikes) if rounded and self.spikes is not None else self.held
        lines = (*recomputed(self.flat, held, code.wanted), *code.lines)
        # All are sums of multiples of the given gradients, so one that is a number is zero.
        results = tuple((key, leaf) for key, leaf in code.results if isinstance(leaf, Read))
        used = [k for line in lines for k in line.reads] + [leaf.key for _, leaf in results]
        read = tuple(dict.fromkeys(key for key in used if key in self.uniform))
        spiked = rounded and self.spikes in used and self.spikes not in self.held
        return Gradients(lines, results, names, tuple(GRADIENT + name for name in names), read, spiked)

    def _backward(self, given: tuple[bool, ...]) -> BackwardTape:
        code = self.gradients(given)
        places = (*self.held, *code.arriving)
        made = tape(code.lines, [(f"to {k}", leaf) for k, leaf in code.results], places, uniform=code.uniform)
        reduced = tuple(key for key, _ in code.results if key in self.uniform)
        return BackwardTape(made, code.uniform, tuple(k for k, _ in code.results), reduced)


@cache
def kernel(equations: Equations) -> Kernel:
    """The kernel of `equations`."""
    return Kernel(equations)


def shaped(parameter: Tensor, like: Tensor) -> Tensor:
    """A learned parameter, by channel `[C]`, in the shape that broadcasts over a current like `like`."""
    return parameter.view(-1, *[1] * (like.dim() - 2)) if parameter.dim() else parameter


def blocks(x: Tensor, share: int = 1) -> list[slice]:
    """Slices of the batch axis of about `BLOCK / share` elements; one off the CPU, where its cache plays no part."""
    if x.device.type != "cpu":
        return [slice(0, x.shape[0])]
    rows = max(1, BLOCK // share * x.shape[0] // max(1, x.numel()))
    return [slice(k, k + rows) for k in range(0, x.shape[0], rows)]


class Scratch:
    """Memory for blocks, made for the first one; later ones are as large or smaller."""

    def __init__(self, make: Callable[[Tensor], list[Tensor]]) -> None:
        self.make = make
        self.held: list[Tensor] | None = None

    def of(self, like: Tensor) -> list[Tensor]:
        """The memory for a block like `like`."""
        if self.held is None:
            self.held = self.make(like)
        if self.held and self.held[0].shape[0] != like.shape[0]:
            return [each[: like.shape[0]] for each in self.held]
        return self.held


class Runner:
    """Runs a tape on one block after the other, with the same scratch."""

    def __init__(self, code: Tape) -> None:
        self.code = code
        self.scratch = Scratch(code.memory)

    def run(self, values: list[Any], like: Tensor) -> None:
        """Run on one block: `values` has a tensor for each place that the caller fills, `like` is one of a block."""
        self.code.run([*values, *self.scratch.of(like)], like)

    def fixed(self, like: Tensor) -> list[Any]:
        """What the function of the tape takes after the places that the caller fills, for blocks like `like`."""
        return [*self.scratch.of(like), *self.code.constants(like)]


def run_block(
    kernels: Sequence[Kernel],
    runners: Mapping[Kernel, Runner],
    currents: Iterable[Tensor],
    uniforms: Mapping[str, Tensor],
    spikes: Sequence[Tensor],
    states: Sequence[Sequence[Tensor]],
    held: Sequence[Tensor] | None = None,
) -> None:
    """All steps of one block, so that the states never leave the cache.

    Writes into `spikes` of each step and, where given, the one value that each step keeps into `held`. `states` is
    memory for the states: once, or twice where the next values must not go where those of before are still read.
    """
    # A state that the first step cannot do without, as a divisor for one.
    before = {key: torch.zeros_like(spikes[0]) for key in kernels[0].states}
    for t, (kernel, now) in enumerate(zip(kernels, currents, strict=True)):
        after = states[t % len(states)][: len(kernel.after) - 1]
        places = [now, *(before[key] for key in kernel.states), *(uniforms[key] for key in kernel.uniform)]
        places += [spikes[t], *after]
        if held is not None and kernel.written:
            places.append(held[t])
        elif held is not None and kernel.held:
            held[t].copy_(now)
        runners[kernel].run(places, now)
        before = dict(zip(kernel.next[1:], after, strict=True))


def add_up(currents: Sequence[Tensor], k: slice, out: Tensor | None) -> Tensor:
    """A block of the sum of `currents`, written into `out` (or fresh memory) where there are several."""
    now, *others = (c[k] for c in currents)
    for other in others:
        out = torch.empty_like(now) if out is None else out
        now = torch.add(now, other, out=out)
    return now


def empty_steps(like: Tensor, steps: int) -> Tensor:
    """`[T*N, ...]` for steps of the shape and layout of `like`."""
    last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    shape = (steps * like.shape[0], *like.shape[1:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
