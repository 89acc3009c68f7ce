"""Neurons of any equations: one step or all of them, alone or on the results of a convolution.

Shapes: one step of one layer is `[N, C, H, W]` or `[N, F]`. While torch traces (`torch.export`, `torch.compile`) or
transforms (`torch.func`) plain equations stand in for the kernels; torch's own compiler fuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bcgraph.equations.expression import Apply, Expression, Number, Read, reads
from bcgraph.equations.flat import Builder
from bcgraph.equations.neuron import SPIKES, Equations
from bcgraph.equations.simplify import NoValueError
from bcgraph.nn.functional import resize
from bcgraph.nn.neuron import autograd, plain
from bcgraph.nn.neuron.gpu import launch
from bcgraph.nn.neuron.gpu import steps as gpu_steps
from bcgraph.nn.neuron.kernel import Kernel, Runner, add_up, blocks, kernel, shaped
from bcgraph.nn.neuron.packed_spikes import pack
from bcgraph.nn.norm import split
from bcgraph.nn.precision import membranes
from bcgraph.nn.transforms import traced
from bcgraph.nn.workspace import Workspace, empty, is_last

Slots = tuple[int | None, ...]
"""The slots of the workspace that hold what a neuron gives, in order; None for memory of its own."""


class Neuron:
    """A neuron of one step: from currents, states and learned parameters to what its equations give.

    With `packs` it gives the bits of its spikes as well (`bcgraph.nn.neuron.packed_spikes.pack`).
    """

    def __init__(self, equations: Equations, name: str, packs: bool = False) -> None:
        self.equations = equations
        self.packs = packs
        self.kernel: Kernel = kernel(equations)
        # What torch.fx calls it in a graph's code.
        self.__name__ = name
        self.__qualname__ = name
        self.__module__ = "bcgraph.neurons"

    def __call__(
        self,
        currents: Sequence[Tensor],
        states: Sequence[Tensor],
        learned: Sequence[Tensor],
        workspace: Workspace | None = None,
        slots: Slots = (),
    ) -> tuple[Tensor, ...]:
        """One step. The current I is the sum of `currents`; `states` are those of the step before, `learned` scalars
        or `[C]`.

        The first current has the size of the map. Another whose size divides that one's is read at the nearest place.
        Returns what `equations.gives` names, each of the shape of the first current. The backward pass keeps as few
        tensors as it can (see `bcgraph.equations.kept`).
        """
        made = self._step(currents, states, learned, workspace, slots)
        packed = not self.packs or len(made) > len(self.kernel.after)
        return made if packed else (*made, pack(made[0]))

    def _step(
        self,
        currents: Sequence[Tensor],
        states: Sequence[Tensor],
        learned: Sequence[Tensor],
        workspace: Workspace | None = None,
        slots: Slots = (),
    ) -> tuple[Tensor, ...]:
        """What a step gives, then the bits of the spikes where a kernel has written them."""
        like = currents[0]
        if traced() or not launch.usable(like):
            currents = enlarged(currents)
        uniforms = self.kernel.uniforms(learned, like)
        wide = membranes(like)
        if wide != like.dtype and (traced() or not launch.usable(like)):
            with torch.autocast(like.device.type, enabled=False):
                made = self._step([c.to(wide) for c in currents], states, learned)
            return tuple(v.to(like.dtype) if n == SPIKES else v for n, v in zip(self.kernel.after, made, strict=True))
        if traced():
            found: tuple[Tensor, ...] = self.kernel.plain(total(currents), *states, *uniforms)
            return found
        if needs_gradient(*currents, *states, *uniforms):
            return autograd.one_step(self.kernel, currents, states, uniforms, self.packs and launch.usable(like))
        if launch.usable(like):
            packs = self.packs and torch.is_grad_enabled()
            step = launch.step(self.kernel, currents, states, uniforms, keeps=False, packs=packs)
            return (*step.given, step.bits) if packs else step.given
        given = tuple(results(like, len(like), workspace, slots, len(self.kernel.after)))
        runner = Runner(self.kernel.forward)
        for k in blocks(like):
            now = add_up(currents, k, None)
            runner.run([now, *(v[k] for v in states), *uniforms, *(v[k] for v in given)], now)
        return given


class NeuronSteps:
    """A neuron of all steps: from currents `[T*N, ...]` to spikes `[T*N, ...]`, time first."""

    def __init__(self, equations: Equations, name: str) -> None:
        self.equations = equations
        self.kernel: Kernel = kernel(equations)
        self.__name__ = name
        self.__qualname__ = name
        self.__module__ = "bcgraph.neurons"

    def kernels(self, steps: int) -> tuple[Kernel, ...]:
        """The kernel of each step: the first has no states to read, and the last need give none."""
        return steps_of(self.equations, steps)

    def __call__(
        self,
        currents: Sequence[Tensor],
        learned: Sequence[Tensor],
        steps: int,
        repeated: bool,
        workspace: Workspace | None = None,
        slots: Slots = (),
    ) -> Tensor:
        """The spikes of all steps. With `repeated` the current is the same at every step and comes as `[N, ...]`."""
        alike = len({each.dtype for each in currents}) == 1
        if traced() or not (alike and launch.usable(currents[0])):
            currents = [total(currents)]
        current = currents[0]
        wide = membranes(current)
        if wide != current.dtype and (traced() or not launch.usable(current)):
            with torch.autocast(current.device.type, enabled=False):
                made = NeuronSteps.__call__(self, [current.to(wide)], learned, steps, repeated)
            return made.to(current.dtype)
        given = (current,) * steps if repeated else split(current, steps)
        kernels = self.kernels(steps)
        one = given[0]
        uniforms = self.kernel.uniforms(learned, one)
        names = self.kernel.uniform
        if traced():
            return plain_steps(kernels, given, dict(zip(names, uniforms, strict=True)))
        if needs_gradient(*currents, *uniforms):
            return autograd.all_steps(kernels, currents, repeated, names, uniforms)
        if launch.usable(current):
            fixed = dict(zip(names, uniforms, strict=True))
            return gpu_steps.all_steps(kernels, currents, repeated, fixed, keeps=False, again=False).spikes
        shape = (steps * one.shape[0], *one.shape[1:])
        s = empty(workspace, slots[0] if slots else None, shape, is_last(one), one.dtype, one.device)
        autograd.run_steps(kernels, given, dict(zip(names, uniforms, strict=True)), split(s, steps))
        return s


def equation(
    expression: Expression, keys: Sequence[str], equations: Equations, name: str
) -> Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]:
    """One equation on its own: from the values of `keys` and the learned parameters of `equations` to its value."""
    builder = Builder()
    leaf = builder.flat(expression)
    fixed = tuple(dict.fromkeys(read.key for read in reads(expression) if read.key not in keys))
    known = dict(equations.uniform)
    prologue = Builder()
    uniform = [prologue.flat(known.get(key, Read(key))) for key in fixed]
    first = plain.function(prologue.lines, uniform, [each.name for each in equations.learned])
    then = plain.function(builder.lines, [leaf], [*keys, *fixed], fixed)

    def run(values: Sequence[Tensor], learned: Sequence[Tensor]) -> Tensor:
        given = first(*(shaped(p, values[0]) for p in learned)) if fixed else ()
        found: Tensor = then(*values, *(u.to(values[0].dtype) for u in given))[0]
        return found

    run.__name__ = run.__qualname__ = name
    run.__module__ = "bcgraph.equations"
    run.keys = tuple(keys)  # type: ignore[attr-defined]
    run.expression = expression  # type: ignore[attr-defined]
    run.equations = equations  # type: ignore[attr-defined]
    return run


def margin(of: Any, values: Sequence[Tensor], learned: Sequence[Tensor]) -> Tensor | None:
    """How far a node of one equation is from giving another number: None where it gives any number.

    A spike changes where its operand crosses 0; a whole number where its operand crosses a half within the bounds.
    """
    expression: Expression = of.expression
    if not isinstance(expression, Apply) or expression.function not in ("spike", "quantize"):
        return None
    x = equation(expression.operands[0], of.keys, of.equations, "distance")(values, learned)
    if expression.function == "spike":
        return x.abs()
    low, high = (operand.value for operand in expression.operands[1:] if isinstance(operand, Number))
    nearest = torch.clamp(torch.floor(x) + 0.5, low + 0.5, high - 0.5)
    return (x - nearest).abs()


@cache
def steps_of(equations: Equations, steps: int) -> tuple[Kernel, ...]:
    """The kernels of `steps` steps of a neuron."""
    states = tuple(name for name in equations.gives if name != SPIKES)
    try:
        first = equations.without(equations.states)
    except NoValueError:
        first = equations
    found: list[Kernel] = []
    for t in range(steps):
        one = first if t == 0 else equations
        found.append(kernel(one.giving((SPIKES, *states) if t < steps - 1 else (SPIKES,))))
    return tuple(found)


def plain_steps(kernels: Sequence[Kernel], given: Sequence[Tensor], uniforms: Mapping[str, Tensor]) -> Tensor:
    """All steps in torch's own operations."""
    spikes: list[Tensor] = []
    states = {key: torch.zeros_like(given[0]) for key in kernels[0].states}
    for one, now in zip(kernels, given, strict=True):
        fixed = (uniforms[key] for key in one.uniform)
        made = one.plain(now, *(states[key] for key in one.states), *fixed)
        spikes.append(made[0])
        states = dict(zip(one.next[1:], made[1:], strict=True))
    return torch.cat(spikes)


def results(like: Tensor, samples: int, workspace: Workspace | None, slots: Slots, count: int) -> list[Tensor]:
    """Memory for `count` results of the shape of `like`, with so many samples: slots of the workspace, or fresh."""
    shape = (samples, *like.shape[1:])
    wanted = slots if slots else (None,) * count
    return [empty(workspace, slot, shape, is_last(like), like.dtype, like.device) for slot in wanted]


def needs_gradient(*values: Tensor | None) -> bool:
    """Whether autograd needs the gradient of one of `values`."""
    return torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in values)


def enlarged(currents: Sequence[Tensor]) -> list[Tensor]:
    """The currents, those of a smaller map enlarged to that of the first by its nearest values."""
    like = currents[0]
    return [each if each.shape == like.shape else resize(each, *like.shape[-2:]) for each in currents]


def total(currents: Sequence[Tensor]) -> Tensor:
    """The sum of one or more currents."""
    found = currents[0]
    for other in currents[1:]:
        found = found + other
    return found
