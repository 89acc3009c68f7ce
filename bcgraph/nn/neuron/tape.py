"""Tapes: flat code as torch operations that write into given memory, with a plan of the memory in between.

The operations are elementwise, so a tape runs on a block of the batch that stays in a core's cache from the first
operation to the last. All values stay in floating point but the tests of `where`: torch vectorizes neither a
conversion from booleans nor `where`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bcgraph.equations.expression import FUNCTIONS, Apply, Number, Read
from bcgraph.equations.flat import Leaf, Line
from bcgraph.nn.neuron.operations import SELECT, Call, Operation, copy, fill, spread


@dataclass(frozen=True, slots=True)
class Step:
    """One torch operation on numbered places, and its keywords: `alpha` or `value`, with a factor."""

    operation: Operation
    result: int
    arguments: tuple[int, ...]
    keywords: Mapping[str, float]


@dataclass(frozen=True)
class Tape:
    """Operations in order, on numbered places: first those that the caller fills, then scratch, then constants.

    `places` are the keys of what the caller fills: inputs and results. `scratch` counts further places of the shape of
    a block, of which the last `flags` hold booleans. `numbers` are constants as they are, `scalars` those that an
    operation takes only as tensors.
    """

    steps: tuple[Step, ...]
    places: tuple[str, ...]
    scratch: int
    flags: int
    numbers: tuple[float, ...]
    scalars: tuple[float, ...]

    def run(self, values: list[Any], like: Tensor) -> None:
        """Run on one block: `values` has a tensor for each of `places`, and then scratch; `like` is one of a block."""
        self.function(*values, *self.constants(like))

    def constants(self, like: Tensor) -> list[Any]:
        """The last places of `function`, for blocks of the type of `like`."""
        return [*self.numbers, *[like.new_full((), number) for number in self.scalars]]

    @cached_property
    def function(self) -> Callable[..., None]:
        """All operations as one function of all places: on small tensors a loop over them takes as long as they do."""
        known: dict[str, Any] = {}
        lines = []
        for index, step in enumerate(self.steps):
            known[f"f{index}"] = step.operation
            known.update({f"k{index}_{name}": value for name, value in step.keywords.items()})
            given = [f"v{a}" for a in step.arguments] + [f"{name}=k{index}_{name}" for name in step.keywords]
            lines.append(f" f{index}({', '.join([*given, f'out=v{step.result}'])})")
        count = len(self.places) + self.scratch + len(self.numbers) + len(self.scalars)
        exec("\n".join([f"def run({', '.join(f'v{i}' for i in range(count))}):", *(lines or [" pass"])]), known)
        run: Callable[..., None] = known["run"]
        return run

    def memory(self, like: Tensor) -> list[Tensor]:
        """Scratch of the shape, layout and type of `like`."""
        floats = [torch.empty_like(like) for _ in range(self.scratch - self.flags)]
        return floats + [torch.empty_like(like, dtype=torch.bool) for _ in range(self.flags)]


def tape(
    lines: Sequence[Line],
    results: Sequence[tuple[str, Leaf]],
    inputs: Sequence[str],
    *,
    uniform: Collection[str] = (),
    over: Mapping[str, str] | None = None,
    consumed: Collection[str] = (),
) -> Tape:
    """The tape of `lines` that computes `results`, each a name of its own and what it is worth.

    `inputs` and `uniform` are the keys of values that the caller has; a uniform one has fewer axes or broadcasts.
    `over` says which input's memory a result may share: it is written only when the input is read no more. Inputs in
    `consumed` may be written over, as scratch.
    """
    return _Planner(lines, results, inputs, uniform, over or {}, consumed).plan()


def _without_detach(lines: Sequence[Line]) -> dict[str, Apply]:
    """The calls by name. `detach` says something to the derivative alone, and is no operation."""
    calls: dict[str, Apply] = {}
    for line in lines:
        if line.call.function != "detach":
            operands = tuple(_behind(operand, lines) for operand in line.call.operands)
            calls[line.name] = Apply(line.call.function, operands, line.call.slope)
    return calls


def _behind(leaf: Any, lines: Sequence[Line]) -> Leaf:
    """The value itself, where `leaf` is one without its gradient."""
    known = {line.name: line.call for line in lines}
    while isinstance(leaf, Read) and leaf.key in known and known[leaf.key].function == "detach":
        leaf = known[leaf.key].operands[0]
    return leaf  # type: ignore[no-any-return]


class _Planner:
    """Chooses the operations, then their places."""

    def __init__(
        self,
        lines: Sequence[Line],
        results: Sequence[tuple[str, Leaf]],
        inputs: Sequence[str],
        uniform: Collection[str],
        over: Mapping[str, str],
        consumed: Collection[str],
    ) -> None:
        self.calls = _without_detach(lines)
        results = [(name, _behind(leaf, lines)) for name, leaf in results]
        self.results = results
        self.inputs = tuple(inputs)
        self.uniform = tuple(uniform)
        self.over = over
        self.consumed = consumed
        self.uses: dict[str, int] = {}
        operands = [leaf for call in self.calls.values() for leaf in call.operands] + [leaf for _, leaf in results]
        for leaf in operands:
            if isinstance(leaf, Read):
                self.uses[leaf.key] = self.uses.get(leaf.key, 0) + 1
        self.tests = {name for name, call in self.calls.items() if FUNCTIONS[call.function].condition}

    def plan(self) -> Tape:
        chosen = self.chosen()
        order = list(chosen)
        owners: dict[str, str] = {}
        copies: list[tuple[str, Leaf]] = []
        for name, leaf in self.results:
            # A value that is computed for one result alone is computed in its place.
            if isinstance(leaf, Read) and leaf.key in chosen and leaf.key not in owners and leaf.key not in self.tests:
                owners[leaf.key] = name
            else:
                copies.append((name, leaf))
        last: dict[str, int] = {}
        for index, key in enumerate(order):
            for read in chosen[key].reads:
                last[read] = index
        end = len(order)
        late = [leaf.key for _, leaf in copies if isinstance(leaf, Read)]
        last.update(dict.fromkeys(late, end))
        # A result in the memory of an input waits in scratch while the input is still read.
        for index, key in enumerate(order):
            owner = owners.get(key)
            held = self.over.get(owner) if owner is not None else None
            if owner is not None and held is not None and last.get(held, -1) > index:
                del owners[key]
                copies.append((owner, Read(key)))
                last[key] = end
        # An input that becomes a result is read before anything is written over it.
        shared = set(self.over.values())
        for index, (name, leaf) in enumerate(copies):
            if isinstance(leaf, Read) and leaf.key in shared and self.over.get(name) != leaf.key:
                key = f"copy of {leaf.key}"
                chosen[key] = Call(copy, (leaf.key,))
                order.append(key)
                last[key] = len(order)
                copies[index] = (name, Read(key))
        places = (*self.inputs, *self.uniform, *(name for name, _ in self.results))
        number = {key: index for index, key in enumerate(places)}
        at: dict[str, int] = {key: number[key] for key in (*self.inputs, *self.uniform)}
        free: list[int] = []
        flags: dict[int, None] = {}
        count = len(places)
        made: list[tuple[Call, int, tuple[int | None, ...]]] = []
        for index, key in enumerate(order):
            call = chosen[key]
            ended = [read for read in dict.fromkeys(call.reads) if last[read] == index]
            arguments = tuple(at[a] if isinstance(a, str) else None for a in call.arguments)
            if key in owners:
                place = number[owners[key]]
                for read in ended:
                    self._release(read, at, number, free, flags)
            elif key in self.tests:
                place = count
                count += 1
                flags[place] = None
                for read in ended:
                    self._release(read, at, number, free, flags)
            else:
                for read in ended:
                    self._release(read, at, number, free, flags)
                if free:
                    place = free.pop()
                else:
                    place = count
                    count += 1
            at[key] = place
            made.append((call, place, arguments))
        for name, leaf in copies:
            if isinstance(leaf, Number):
                made.append((Call(fill, (leaf.value,)), number[name], (None,)))
            else:
                made.append((Call(copy, (leaf.key,)), number[name], (at[leaf.key],)))
        return _numbered(made, places, count, tuple(flags))

    def _release(
        self, key: str, at: Mapping[str, int], number: Mapping[str, int], free: list[int], flags: Mapping[int, None]
    ) -> None:
        place = at[key]
        given = key in number
        if place in flags or key in self.uniform or (given and key not in self.consumed):
            return
        if place < len(number) and not given:
            return  # A result.
        free.append(place)

    # --- the choice of operations ---

    def chosen(self) -> dict[str, Call]:
        """The operation for each line, in order. Lines that another's operation takes in are left out."""
        wanted = {leaf.key for _, leaf in self.results if isinstance(leaf, Read)}
        found: dict[str, Call] = {}
        for key in reversed(list(self.calls)):
            if key in wanted:
                call = self.select(key)
                wanted.update(call.reads)
                # Where uniform values alone are read, the result would have their shape and not that of a block.
                narrow = set(call.reads) <= set(self.uniform)
                found[key] = replace(call, operation=spread(call.operation)) if narrow else call
        return dict(reversed(found.items()))

    def select(self, key: str) -> Call:
        call = self.calls[key]
        return SELECT[call.function](self, call)

    def product(self, leaf: Leaf) -> tuple[Leaf, Leaf] | None:
        """The factors of a product that nothing else reads."""
        if not isinstance(leaf, Read) or self.uses.get(leaf.key) != 1:
            return None
        call = self.calls.get(leaf.key)
        if call is None or call.function != "mul":
            return None
        a, b = call.operands
        return a, b  # type: ignore[return-value]

    def is_fixed(self, leaf: Leaf) -> bool:
        """Whether a value is the same for all elements, or for all of a channel."""
        return isinstance(leaf, Number) or leaf.key in self.uniform

    def complement(self, leaf: Leaf) -> Leaf | None:
        """The b of `1 - b` that nothing else reads."""
        if not isinstance(leaf, Read) or self.uses.get(leaf.key) != 1:
            return None
        call = self.calls.get(leaf.key)
        if call is None or call.function != "sub" or call.operands[0] != Number(1.0):
            return None
        return call.operands[1]  # type: ignore[return-value]


def _numbered(
    made: list[tuple[Call, int, tuple[int | None, ...]]], places: tuple[str, ...], count: int, flags: tuple[int, ...]
) -> Tape:
    """The tape: places of booleans come after all others, and constants, each held once, after those."""
    floats = [p for p in range(len(places), count) if p not in flags]
    moved = {p: p for p in range(len(places))}
    moved.update({old: len(places) + new for new, old in enumerate([*floats, *flags])})
    calls = [call for call, _, _ in made]
    fixed = [(a, i in call.scalars) for call in calls for i, a in enumerate(call.arguments) if isinstance(a, float)]
    numbers = tuple(dict.fromkeys(a for a, scalar in fixed if not scalar))
    scalars = tuple(dict.fromkeys(a for a, scalar in fixed if scalar))

    def place(call: Call, index: int, at: int | None) -> int:
        if at is not None:
            return moved[at]
        value = call.arguments[index]
        assert isinstance(value, float)
        if index in call.scalars:
            return count + len(numbers) + scalars.index(value)
        return count + numbers.index(value)

    steps = tuple(
        Step(
            call.operation,
            moved[result],
            tuple(place(call, index, at) for index, at in enumerate(arguments)),
            dict(call.keywords),
        )
        for call, result, arguments in made
    )
    return Tape(steps, places, count - len(places), len(flags), numbers, scalars)
