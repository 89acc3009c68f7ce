"""All steps of a feedback loop, on memory that is made once.

Shapes: the value of one step is `[N, C]`, that of all steps `[T*N, C]`, time first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bcgraph.equations.neuron import CURRENT
from bcgraph.nn.loop.calls import Fire, Norm, Product, kept, longest_delays
from bcgraph.nn.neuron.kernel import Runner, blocks
from bcgraph.nn.norm import split

if TYPE_CHECKING:
    from bcgraph.nn.loop.module import Loop

Step = Callable[[int], None]


@dataclass(frozen=True)
class Given:
    """What a loop is given: `tensors`, and their names in the same order.

    A name is that of a frame or parameter; for a uniform value of a neuron, its port and key; for a norm, its module
    and `weight` or `bias`.
    """

    loop: Loop
    keys: tuple[Any, ...]
    tensors: Sequence[Tensor]

    @staticmethod
    def of(
        loop: Loop,
        frames: Sequence[Tensor],
        fixed: Sequence[Tensor],
        uniforms: Mapping[int, Mapping[str, Tensor]],
        affine: Sequence[Tensor],
    ) -> Given:
        """What a call of `loop` is given."""
        own = [(port, key) for port, some in uniforms.items() for key in some]
        norms = [(name, part) for name in loop.norms for part in ("weight", "bias")]
        inner = [some[key] for some in uniforms.values() for key in some]
        return Given(loop, (*loop.frames, *loop.fixed, *own, *norms), (*frames, *fixed, *inner, *affine))

    @property
    def names(self) -> tuple[Loop, tuple[Any, ...]]:
        """Everything but the tensors."""
        return self.loop, self.keys

    def named(self) -> dict[Any, Tensor]:
        """The tensors by name."""
        return dict(zip(self.keys, self.tensors, strict=True))


class _Memory:
    """The values of a loop: each a ring of the steps that are still read, or all steps in one tensor."""

    def __init__(self, given: Given, whole: set[str]) -> None:
        loop = given.loop
        self.given = given.named()
        self.whole: dict[str, Tensor] = {}
        self.all = whole
        self.late = longest_delays(loop.calls)
        self.values: dict[str, Sequence[Tensor]] = {name: loop.of_steps(name, self.given[name]) for name in loop.frames}

    def make(self, name: str, like: Tensor, channels: int, steps: int) -> Sequence[Tensor]:
        """Memory for a value of `steps` steps."""
        if name in self.all:
            self.whole[name] = like.new_empty((steps * len(like), channels))
            made: Sequence[Tensor] = split(self.whole[name], steps)
        else:
            made = [like.new_empty((len(like), channels)) for _ in range(1 + self.late.get(name, 0))]
        self.values[name] = made
        return made


def forward(
    given: Given, *, keep: bool, seen: Callable[[int, int, Tensor], None] | None = None
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """The results of a loop and, to `keep` for the backward pass, tensors by name.

    `seen` is called with each port, step and whole current.
    """
    loop = given.loop
    memory = _Memory(given, {*loop.results, *(kept(loop.calls) if keep else ())})
    like = next(x for x in memory.values[loop.frames[0]])
    # Memory first: a neuron reads late what a later call gives.
    width = _widths(loop, memory.given)
    for call in loop.calls:
        for name in call.gives if isinstance(call, Fire) else (call.gives,):
            memory.make(name, like, width[name], loop.steps if isinstance(call, Fire) else call.steps)
    held: dict[str, Tensor] = {}
    run: list[tuple[int, Step]] = []
    for call in loop.calls:
        if isinstance(call, Product):
            run.append((call.steps, _product(call, memory)))
        elif isinstance(call, Norm):
            run.append((call.steps, _norm(call, loop, memory, held if keep else None)))
        else:
            run.append((loop.steps, _fire(call, loop.steps, memory, held if keep else None, seen)))
    for t in range(loop.steps):
        for steps, step in run:
            if t < steps:
                step(t)
    for call in loop.calls:
        if isinstance(call, Norm) and (norm := loop.norms[call.module]).training:
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += call.steps
    results = tuple(memory.whole[name] for name in loop.results)
    return results, {**held, **memory.whole} if keep else {}


def _widths(loop: Loop, given: Mapping[Any, Tensor]) -> dict[str, int]:
    """The channels of each value."""
    found = {name: given[name].shape[1] for name in loop.frames}
    for call in loop.calls:
        if isinstance(call, Fire):
            # The current that is there at once is made before, or given.
            at_once = next(name for name, late in call.currents if not late)
            found.update(dict.fromkeys(call.gives, found[at_once]))
        else:
            found[call.gives] = given[call.weight].shape[0] if isinstance(call, Product) else found[call.reads]
    return found


def _product(call: Product, memory: _Memory) -> Step:
    weight = memory.given[call.weight].flatten(1).t()
    bias = None if call.bias is None else memory.given[call.bias]
    reads, gives = memory.values[call.reads], memory.values[call.gives]

    def step(t: int) -> None:
        x, y = reads[t % len(reads)], gives[t % len(gives)]
        if bias is None:
            torch.mm(x, weight, out=y)
        else:
            torch.addmm(bias, x, weight, out=y)

    return step


def _norm(call: Norm, loop: Loop, memory: _Memory, held: dict[str, Tensor] | None) -> Step:
    norm = loop.norms[call.module]
    weight, bias = memory.given[call.module, "weight"], memory.given[call.module, "bias"]
    reads, gives = memory.values[call.reads], memory.values[call.gives]
    mean, var, momentum, eps = norm.running_mean, norm.running_var, norm.momentum, norm.eps
    assert momentum is not None
    one = gives[0]
    if norm.training and len(one) == 1:
        raise ValueError("batch statistics need more than one value per channel")
    # In eval mode the kernel gives no statistics.
    shape = (1, 0) if not norm.training else (call.steps if held is not None else 1, one.shape[1])
    means, scales = weight.new_empty(shape), weight.new_empty(shape)
    if held is not None and norm.training:
        held[f"{call.gives}.mean"], held[f"{call.gives}.invstd"] = means, scales
    elif held is not None:
        assert mean is not None
        assert var is not None
        held[f"{call.gives}.mean"], held[f"{call.gives}.var"] = mean.clone(), var.clone()
    parts = list(zip(means, scales, strict=True))

    def step(t: int) -> None:
        x, y = reads[t % len(reads)], gives[t % len(gives)]
        out = (y, *parts[t % len(parts)])
        torch.native_batch_norm(x, weight, bias, mean, var, norm.training, momentum, eps, out=out)

    return step


def _fire(
    call: Fire,
    steps: int,
    memory: _Memory,
    held: dict[str, Tensor] | None,
    seen: Callable[[int, int, Tensor], None] | None,
) -> Step:
    gives = [memory.values[name] for name in call.gives]
    like = gives[0][0]
    rows = (steps * len(like), *like.shape[1:])
    buffers = {key: like.new_empty(rows) for key in (written(call) if held is not None else ())}
    if held is not None:
        held.update({f"{call.gives[0]}.{key}": x for key, x in buffers.items()})
    places = {key: split(x, steps) for key, x in buffers.items()}
    sums = places.get(CURRENT)
    scratch = torch.empty_like(like)
    runners = [Runner(one.forward if held is None else one.keeping) for one in call.kernels]
    slices = blocks_of(like)
    zeros = torch.zeros_like(like)
    uniforms = [[memory.given[call.port, key] for key in one.uniform] for one in call.kernels]
    terms = [(memory.values[name], late) for name, late in call.currents]
    states = [[memory.values[call.states[key]] for key in one.states] for one in call.kernels]

    def step(t: int) -> None:
        number = 1 if t else 0
        one = call.kernels[number]
        arriving = [values[(t - late) % len(values)] for values, late in terms if late <= t]
        before = [values[(t - 1) % len(values)] if t else zeros for values in states[number]]
        after = [values[t % len(values)] for values in gives]
        more = [places[key][t] for key in one.written] if held is not None else []
        now, *others = arriving
        out = scratch if sums is None else sums[t]
        for other in others:
            now = torch.add(now, other, out=out)
        if sums is not None and not others:
            now = sums[t].copy_(now)
        if seen is not None:
            seen(call.port, t, now.clone())
        for k in slices:
            # On a small batch no slice has to be taken.
            cut = (now, *before), (*after, *more)
            reads, makes = cut if k is None else ([v[k] for v in some] for some in cut)
            runners[number].run([*reads, *uniforms[number], *makes], reads[0])

    return step


def blocks_of(like: Tensor) -> Sequence[slice | None]:
    """Blocks of a batch; None for all of it where it is a single one."""
    found = blocks(like)
    return found if len(found) > 1 else (None,)


def written(call: Fire) -> tuple[str, ...]:
    """What the steps of a neuron keep beside its states."""
    found = [key for one in call.kernels for key in one.held if key not in one.states]
    return tuple(dict.fromkeys(found))
