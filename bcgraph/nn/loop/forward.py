"""All steps of a feedback loop, on memory that is made once.

Shapes: the value of one step is `[N, C]`, that of all steps `[T*N, C]`, time first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, repeat
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bcgraph.equations.neuron import CURRENT
from bcgraph.nn.loop.calls import Fire, Loop, Norm, Product, kept, longest_delays
from bcgraph.nn.neuron.kernel import Runner, blocks
from bcgraph.nn.norm import split

Step: TypeAlias = Callable[[int], None]

Piece: TypeAlias = tuple[Callable[..., object], Iterator[tuple[Any, ...]]]
"""An operation, and what it is called with at one step after the other."""


@dataclass(frozen=True, slots=True)
class _Work:
    """A call on its memory, at its first `steps` steps.

    `step` runs one. `pieces` gives the operations of the steps from one to before another: from the step on at which
    nothing that it reads is missing, each step is the same operations on other memory. What they are called with is
    listed before, since working it out anew takes as long as an operation does.
    """

    steps: int
    step: Step
    pieces: Callable[[int, int], list[Piece]]


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
    work: list[_Work] = []
    for call in loop.calls:
        if isinstance(call, Product):
            work.append(_product(call, memory))
        elif isinstance(call, Norm):
            work.append(_norm(call, loop, memory, held if keep else None))
        else:
            work.append(_fire(call, loop.steps, memory, held if keep else None, seen))
    # What is seen, or runs by blocks, takes its steps one at a time.
    start = max(memory.late.values(), default=0)
    end = min(each.steps for each in work) if seen is None and blocks_of(like) == (None,) else 0
    _one_by_one(work, range(min(start, loop.steps)))
    _in_a_row(work, start, end)
    _one_by_one(work, range(max(start, end), loop.steps))
    for call in loop.calls:
        if isinstance(call, Norm) and (norm := loop.norms[call.module]).training:
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += call.steps
    results = tuple(memory.whole[name] for name in loop.results)
    return results, {**held, **memory.whole} if keep else {}


def _one_by_one(work: Sequence[_Work], steps: Iterable[int]) -> None:
    for t in steps:
        for each in work:
            if t < each.steps:
                each.step(t)


def _in_a_row(work: Sequence[_Work], start: int, end: int) -> None:
    """The steps from `start` to before `end`."""
    if end <= start:
        return
    pieces = [piece for each in work for piece in each.pieces(start, end)]
    for _ in range(start, end):
        for function, places in pieces:
            function(*next(places))


def _at(values: Sequence[Any], start: int, late: int = 0) -> Iterator[Any]:
    """A value of `late` steps before `start`, and those of the steps after it."""
    return islice(cycle(values), (start - late) % len(values), None)


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


def _product(call: Product, memory: _Memory) -> _Work:
    weight = memory.given[call.weight].flatten(1).t()
    bias = None if call.bias is None else memory.given[call.bias]
    reads, gives = memory.values[call.reads], memory.values[call.gives]

    def run(x: Tensor, y: Tensor) -> None:
        if bias is None:
            torch.mm(x, weight, out=y)
        else:
            torch.addmm(bias, x, weight, out=y)

    def step(t: int) -> None:
        run(reads[t % len(reads)], gives[t % len(gives)])

    return _Work(call.steps, step, lambda start, end: [(run, zip(_at(reads, start), _at(gives, start), strict=False))])


def _norm(call: Norm, loop: Loop, memory: _Memory, held: dict[str, Tensor] | None) -> _Work:
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

    training = norm.training

    def run(x: Tensor, y: Tensor, part: tuple[Tensor, Tensor]) -> None:
        torch.native_batch_norm(x, weight, bias, mean, var, training, momentum, eps, out=(y, *part))

    def step(t: int) -> None:
        run(reads[t % len(reads)], gives[t % len(gives)], parts[t % len(parts)])

    def pieces(start: int, end: int) -> list[Piece]:
        return [(run, zip(_at(reads, start), _at(gives, start), _at(parts, start), strict=False))]

    return _Work(call.steps, step, pieces)


def _fire(
    call: Fire,
    steps: int,
    memory: _Memory,
    held: dict[str, Tensor] | None,
    seen: Callable[[int, int, Tensor], None] | None,
) -> _Work:
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

    def pieces(start: int, end: int) -> list[Piece]:
        """The sum of the currents, term by term, and the tape of all steps but the first."""
        made: list[Piece] = []
        arriving = [_at(values, start, late) for values, late in terms]
        # Where the sum is kept it has a place for each step.
        out = repeat(scratch) if sums is None else _at(sums, start)
        now = arriving[0]
        for other in arriving[1:]:
            made.append((_add, zip(now, other, out, strict=False)))
            now, out = (repeat(scratch), repeat(scratch)) if sums is None else (_at(sums, start), _at(sums, start))
        if sums is not None and len(arriving) == 1:
            made.append((Tensor.copy_, zip(_at(sums, start), now, strict=False)))
            now = _at(sums, start)
        before = [_at(values, start, 1) for values in states[1]]
        after = [_at(values, start) for values in gives]
        more = [_at(places[key], start) for key in call.kernels[1].written] if held is not None else []
        fixed = [repeat(x) for x in uniforms[1]]
        rest = [repeat(x) for x in runners[1].fixed(like)]
        columns = (now, *before, *fixed, *after, *more, *rest)
        made.append((runners[1].code.function, zip(*columns, strict=False)))
        return made

    return _Work(steps, step, pieces)


def _add(a: Tensor, b: Tensor, out: Tensor) -> None:
    torch.add(a, b, out=out)


def blocks_of(like: Tensor) -> Sequence[slice | None]:
    """Blocks of a batch; None for all of it where it is a single one."""
    found = blocks(like)
    return found if len(found) > 1 else (None,)


def written(call: Fire) -> tuple[str, ...]:
    """What the steps of a neuron keep beside its states."""
    found = [key for one in call.kernels for key in one.held if key not in one.states]
    return tuple(dict.fromkeys(found))
