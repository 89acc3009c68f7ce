"""The texts of a neuron's kernels: one step, one step backward, all steps, all steps backward.

Each function says which tensors its kernel takes, in order. Arithmetic is in the type `kind`, `float32` or
`float64`; `channels` are the uniform values that have one value a channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from bcgraph.equations.neuron import CURRENT, SPIKES
from bcgraph.nn.neuron.gpu.text import Names, Nearest, Text
from bcgraph.nn.neuron.kernel import Kernel


@cache
def pack() -> str:
    """One bit for each of a tensor's spikes. In: spikes; out: their bits."""
    text = Text("float32")
    text.store_bits(text.load())
    return text.finished()


@cache
def unpack() -> str:
    """The spikes that `pack` packed. In: bits; out: spikes."""
    text = Text("float32")
    text.store(text.load_bits())
    return text.finished()


@cache
def step(
    kernel: Kernel,
    terms: tuple[Nearest | None, ...],
    channels: frozenset[str],
    kind: str,
    keeps: bool,
    total: bool,
    bits: bool,
) -> str:
    """One step: currents (a smaller one where `terms` says how it is read), states and uniform values in.

    Out: what the step gives; with `keeps` the values in `kernel.written`, with `total` the sum of the currents, with
    `bits` one bit for each spike.
    """
    text = Text(kind)
    names: Names = {CURRENT: _sum(text, [text.load(None if each is None else each.at(text)) for each in terms])}
    names.update({key: text.load() for key in kernel.states})
    names.update({key: text.uniform(key in channels) for key in kernel.uniform})
    text.lines(kernel.flat.lines, names)
    given = [text.leaf(leaf, names) for _, leaf in kernel.flat.results]
    for value in given:
        text.store(value)
    if keeps:
        for key in kernel.written:
            text.store(names[key])
    if total:
        text.store(names[CURRENT])
    if bits:
        text.store_bits(given[kernel.after.index(SPIKES)])
    return text.finished()


@cache
def step_backward(kernel: Kernel, given: tuple[bool, ...], channels: frozenset[str], kind: str, rounded: bool) -> str:
    """One step backward: what was kept, the gradients that `given` says there are, and uniform values in.

    Where what was kept is `rounded`, the bits of the spikes come last, if they are needed.

    Out: the gradients in `kernel.gradients(given).results`; of a scalar uniform value one sum a program, of one by
    channel what is still to be summed.
    """
    code = kernel.gradients(given, rounded=rounded)
    text = Text(kind)
    names: Names = {key: text.load() for key in (*kernel.held, *code.arriving)}
    names.update({key: text.uniform(key in channels) for key in code.uniform})
    if code.spiked:
        names[str(kernel.spikes)] = text.load_bits()
    text.lines(code.lines, names)
    for key, leaf in code.results:
        value = text.leaf(leaf, names)
        if key in kernel.uniform and key not in channels:
            text.store_sum(value)
        else:
            text.store(value)
    return text.finished()


@cache
def steps(
    kernels: tuple[Kernel, ...],
    starts: tuple[str, ...],
    ends: tuple[str, ...],
    terms: int,
    uniform: tuple[str, ...],
    channels: frozenset[str],
    kind: str,
    repeated: bool,
    keeps: bool,
    total: bool,
    bits: bool,
) -> str:
    """Steps in turn: currents (`terms` of them), the states `starts` and uniform values in; spikes out.

    Besides come out, with `keeps`, the value that each step keeps, or with `total` the sum of the currents, with `bits`
    one bit for each spike, and last the states `ends`. States that are not in `starts` are zero before the first step.

    Step t of a tensor stands `t * n` elements after the first. With `repeated` the current is the same at every step.
    """
    text = Text(kind)
    currents, spikes = [text.argument() for _ in range(terms)], text.argument()
    held = text.argument() if keeps or total else ""
    packed = text.argument() if bits else ""
    states = {key: text.load() for key in starts}
    fixed = {key: text.uniform(key in channels) for key in uniform}
    for t, names in enumerate(_forward(text, kernels, currents, states, fixed, repeated)):
        _store_at(text, spikes, t, names[f"gives {SPIKES}"])
        if keeps and kernels[t].held:
            _store_at(text, held, t, names[kernels[t].held[0]])
        if total and not (repeated and t):
            _store_at(text, held, t, names[CURRENT])
        if bits:
            text.store_bits(names[f"gives {SPIKES}"], packed, t)
    for key in ends:
        text.store(names[f"next {key}"])
    return text.finished()


@cache
def steps_backward(
    kernels: tuple[Kernel, ...],
    starts: tuple[str, ...],
    arriving: tuple[str, ...],
    uniform: tuple[str, ...],
    channels: frozenset[str],
    kind: str,
    repeated: bool,
    keeps: bool,
    rounded: bool,
) -> str:
    """Steps in turn, backward. In: with `keeps` what each step kept, else the current and the states `starts`;
    gradients of the spikes; the bits of the spikes where what was kept is `rounded`; gradients of the states `arriving`
    after the last step; uniform values.

    Out: the gradient of the current, those of the states that `leaving` names, then those of the uniform values as
    `step_backward` has them.
    """
    text = Text(kind)
    source, spikes, result = text.argument(), text.argument(), text.argument()
    packed = text.argument() if rounded else ""
    states = {} if keeps else {key: text.load() for key in starts}
    before = {name: text.load() for name in arriving}
    fixed = {key: text.uniform(key in channels) for key in uniform}
    kept = None if keeps else list(_forward(text, kernels, [source], states, fixed, repeated))
    sums: dict[str, str] = {}
    whole = ""
    for t in reversed(range(len(kernels))):
        kernel = kernels[t]
        have = {SPIKES: _load_at(text, spikes, t), **before}
        code = kernel.gradients(tuple(name in have for name in kernel.after), rounded=rounded)
        names: Names = dict(fixed)
        if code.spiked:
            names[str(kernel.spikes)] = text.load_bits(packed, t)
        for key in kernel.held:
            names[key] = _load_at(text, source, t) if kept is None else kept[t][key]
        names.update({key: have[name] for key, name in zip(code.arriving, code.names, strict=True)})
        text.lines(code.lines, names)
        found = {key: text.leaf(leaf, names) for key, leaf in code.results}
        to_current = found.get(CURRENT, text.number(0.0))
        if repeated:
            whole = text.value(f"{whole} + {to_current}") if whole else to_current
        else:
            _store_at(text, result, t, to_current)
        for key in uniform:
            if key in found:
                sums[key] = text.value(f"{sums[key]} + {found[key]}") if key in sums else found[key]
        before = {name: found[key] for name, key in _states(kernel) if key in found}
    if repeated:
        _store_at(text, result, 0, whole)
    if starts:
        for value in before.values():
            text.store(value)
    for key in uniform:
        value = sums.get(key, text.number(0.0))
        if key in channels:
            text.store(value)
        else:
            text.store_sum(value)
    return text.finished()


@cache
def leaving(kernels: tuple[Kernel, ...], arriving: tuple[str, ...]) -> tuple[str, ...]:
    """The states before the first step that have a gradient, where the states `arriving` have one after the last."""
    for kernel in reversed(kernels):
        have = (SPIKES, *arriving)
        found = {key for key, _ in kernel.gradients(tuple(name in have for name in kernel.after)).results}
        arriving = tuple(name for name, key in _states(kernel) if key in found)
    return arriving


def _states(kernel: Kernel) -> Iterable[tuple[str, str]]:
    """The states that a step reads: their names, and their keys as values of the step before."""
    return zip(kernel.equations.states, kernel.states, strict=True)


def _forward(
    text: Text, kernels: Sequence[Kernel], currents: Sequence[str], states: Names, fixed: Names, repeated: bool
) -> Iterable[Names]:
    """The values of each step. What it gives is called `gives NAME`, a state that the next step reads `next KEY`."""
    zero = text.number(0.0)
    states = {**dict.fromkeys(kernels[0].states, zero), **states}
    first = ""
    for t, kernel in enumerate(kernels):
        if not (repeated and first):
            first = _sum(text, [_load_at(text, current, t) for current in currents])
        names: Names = {CURRENT: first, **states, **fixed}
        text.lines(kernel.flat.lines, names)
        given = {name: text.leaf(leaf, names) for name, leaf in kernel.flat.results}
        states = {key: given[name] for key, name in zip(kernel.next, kernel.after, strict=True)}
        yield {
            **names,
            **{f"gives {name}": value for name, value in given.items()},
            **{f"next {key}": value for key, value in states.items()},
        }


def _sum(text: Text, values: Sequence[str]) -> str:
    found = values[0]
    for other in values[1:]:
        found = text.value(f"{found} + {other}")
    return found


def _load_at(text: Text, tensor: str, t: int) -> str:
    return text.value(f"tl.load({tensor} + i{_offset(t)}, mask=inside).to(tl.{text.kind})")


def _store_at(text: Text, tensor: str, t: int, value: str) -> None:
    text.body.append(f"tl.store({tensor} + i{_offset(t)}, {value}, mask=inside)")


def _offset(t: int) -> str:
    # `n` may be a 32-bit number, and many steps of it more than one holds.
    return f" + tl.cast(n, tl.int64) * {t}" if t else ""
