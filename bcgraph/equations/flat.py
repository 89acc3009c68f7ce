"""Flat code: equations with one function a line, each result named once and computed once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from bcgraph.equations.expression import Apply, Expression, Number, Read
from bcgraph.equations.neuron import CURRENT, Equations
from bcgraph.equations.simplify import apply, with_values

Leaf: TypeAlias = Number | Read


@dataclass(frozen=True, slots=True)
class Line:
    """One function applied to numbers and values that stand before it."""

    name: str
    call: Apply

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys of the values that the line reads."""
        return tuple(operand.key for operand in self.call.operands if isinstance(operand, Read))


@dataclass(slots=True)
class Builder:
    """Collects lines. Equal calls become one line, constants are worked out, and needless calls are left out."""

    lines: list[Line] = field(default_factory=list)
    known: dict[Apply, Read] = field(default_factory=dict)
    # What each value is the negative of, where a line says so.
    negated: dict[Leaf, Leaf] = field(default_factory=dict)
    prefix: str = "."

    def call(self, function: str, *operands: Leaf, slope: Expression | None = None) -> Leaf:
        """The value of a function, as a number or the name of a line."""
        if function == "add":
            for one, other in (operands, operands[::-1]):
                inner = self.negated.get(other)
                if inner is not None:
                    return self.call("sub", one, inner)
        if function in ("mul", "div"):
            inner = self.negated.get(operands[0])
            if inner is not None:
                return self.call("neg", self.call(function, inner, operands[1]))
        made = apply(function, operands, slope)
        if not isinstance(made, Apply):
            return made
        if any(isinstance(operand, Apply) for operand in made.operands):
            return self.flat(made)
        found = self.known.get(made)
        if found is None:
            found = Read(f"{self.prefix}{len(self.lines)}")
            self.known[made] = found
            self.lines.append(Line(found.name, made))
            if function == "neg":
                self.negated[found] = operands[0]
        return found

    def flat(self, expression: Expression) -> Leaf:
        """The value of a whole expression."""
        if not isinstance(expression, Apply):
            return expression
        return self.call(expression.function, *map(self.flat, expression.operands), slope=expression.slope)

    def slope(self, expression: Expression, x: Leaf) -> Leaf:
        """The value of a surrogate's derivative at `x`."""
        return self.flat(with_values(expression, {"x": x}))


@dataclass(frozen=True, slots=True)
class Flat:
    """Lines of code and what they are for: `results` are what each name in the equations' `gives` is worth.

    `inputs` are current and states, `uniform` what learned parameters decide; lines read those and each other.
    """

    lines: tuple[Line, ...]
    results: tuple[tuple[str, Leaf], ...]
    inputs: tuple[str, ...]
    uniform: tuple[str, ...]


def uniform_lines(lines: Iterable[Line], uniform: Collection[str]) -> frozenset[str]:
    """The lines that only numbers and uniform values reach: their results have the shape of those."""
    found = set(uniform)
    for line in lines:
        if found.issuperset(line.reads):
            found.add(line.name)
    return frozenset(found)


def flattened(equations: Equations) -> Flat:
    """The flat code of `equations`. A name that is another's value, or a number, has no line of its own."""
    builder = Builder()
    values: dict[str, Leaf] = {}
    for name, expression in equations.body:
        known: dict[str, Expression] = dict(values)
        values[name] = builder.flat(with_values(expression, known))
    results = tuple((name, values[name]) for name in equations.gives)
    inputs = ((CURRENT,) if equations.reads_current else ()) + tuple(Read(n, 1).key for n in equations.states)
    return Flat(live(builder.lines, (leaf for _, leaf in results)), results, inputs, equations.fixed)


def live(lines: list[Line], wanted: Iterator[Leaf]) -> tuple[Line, ...]:
    """The lines that `wanted` values depend on, in their order."""
    needed = {leaf.key for leaf in wanted if isinstance(leaf, Read)}
    kept: list[Line] = []
    for line in reversed(lines):
        if line.name in needed:
            kept.append(line)
            needed.update(line.reads)
    return tuple(reversed(kept))
