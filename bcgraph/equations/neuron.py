"""The equations of one step of a neuron: from its current and the states of the step before to what it gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache

from bcgraph.equations.expression import FUNCTIONS, Apply, Expression, Number, Read, reads, replaced, size, text
from bcgraph.equations.simplify import ZERO, with_values

CURRENT = "I"
"""The name of the neuron's input in its equations."""

SPIKES = "s"
"""The name of what the neuron sends."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A trained parameter of a neuron: one value for the layer, or with `channels` one for each channel."""

    name: str
    initial: float
    channels: bool = False


@dataclass(frozen=True, slots=True)
class Equations:
    """Named expressions in the order they are computed; each reads `I`, learned names, and what stands before it.

    `states` are the names whose values of the step before are read, as `Read(name, 1)`; all are zero before the first
    step. `uniform` are the values that learned parameters alone decide, the same for all elements or for all of a
    channel. `gives` are the names that are wanted: the spikes, states, and whatever else is read outside.
    """

    body: tuple[tuple[str, Expression], ...]
    states: tuple[str, ...] = ()
    learned: tuple[Learned, ...] = ()
    uniform: tuple[tuple[str, Expression], ...] = ()
    gives: tuple[str, ...] = (SPIKES,)

    def __str__(self) -> str:
        """The equations, one on a line."""
        known = dict(self.uniform)
        written = (
            (name, replaced(expression, lambda read: known.get(read.key, read))) for name, expression in self.body
        )
        return "\n".join(f"{name} = {text(expression)}" for name, expression in written)

    @property
    def binary(self) -> bool:
        """Whether what the neuron sends is always 0 or 1."""
        return is_binary(dict(self.body)[SPIKES])

    @property
    def counts(self) -> bool:
        """Whether what the neuron sends is a count of spikes: 0 or 1, or a whole number from 0."""
        sends = dict(self.body)[SPIKES]
        if isinstance(sends, Apply) and sends.function == "quantize":
            low = sends.operands[1]
            return isinstance(low, Number) and low.value >= 0
        return is_binary(sends)

    @property
    def reads_current(self) -> bool:
        """Whether anything depends on the current of this step."""
        return any(read.name == CURRENT for _, expression in self.body for read in reads(expression))

    @property
    def fixed(self) -> tuple[str, ...]:
        """The uniform values and learned parameters that the body reads."""
        names = (*(each.name for each in self.learned), *(name for name, _ in self.uniform))
        used = {read.key for _, expression in self.body for read in reads(expression)}
        return tuple(name for name in names if name in used)

    @property
    def size(self) -> int:
        """Numbers, reads and functions in all expressions."""
        return sum(size(expression) for _, expression in self.body)

    def giving(self, gives: Iterable[str]) -> Equations:
        """The equations of `gives` alone, without what none of them depends on."""
        return _giving(self, tuple(gives))

    def without(self, missing: Collection[str]) -> Equations:
        """The equations where some states of the step before, or the current, are zero."""
        return _without(self, frozenset(missing))

    def constant(self, name: str) -> float | None:
        """The value of a name that is a constant, else None."""
        found = dict(self.body).get(name)
        return found.value if isinstance(found, Number) else None


# A schedule asks for the same few variants at every step of every candidate.


@cache
def _giving(equations: Equations, gives: tuple[str, ...]) -> Equations:
    return _cleaned(replace(equations, gives=gives))


@cache
def _without(equations: Equations, missing: frozenset[str]) -> Equations:
    known: dict[str, Expression] = {CURRENT: ZERO} if CURRENT in missing else {}
    known.update({Read(name, 1).key: ZERO for name in missing if name != CURRENT})
    body: list[tuple[str, Expression]] = []
    for name, expression in equations.body:
        made = with_values(expression, known)
        # A constant, or another name for a value, is put in where it is read.
        if isinstance(made, Number | Read) and name not in equations.gives:
            known[name] = made
        else:
            body.append((name, made))
            if isinstance(made, Number):
                known[name] = made
    return _cleaned(replace(equations, body=tuple(body)))


def is_binary(expression: Expression) -> bool:
    """Whether an expression is a spike, and so always 0 or 1."""
    if isinstance(expression, Number):
        return expression.value in (0.0, 1.0)
    return isinstance(expression, Apply) and expression.function == "spike"


def neuron(
    body: Iterable[tuple[str, Expression]], states: Iterable[str], learned: Iterable[Learned], gives: Iterable[str]
) -> Equations:
    """Equations whose expressions are simplified, without what nothing depends on. Raises NoValueError."""
    parameters = tuple(learned)
    names = {each.name for each in parameters}
    uniform: dict[Expression, str] = {}

    def factored(expression: Expression) -> Expression:
        """The expression with a name for each part that learned parameters alone decide."""
        if not isinstance(expression, Apply):
            return expression
        inside = {read.key for read in reads(expression)}
        # A condition is no number, which a uniform value is; the numbers that it compares are.
        if inside and inside <= names and not FUNCTIONS[expression.function].condition:
            return Read(uniform.setdefault(expression, f"${len(uniform)}"))
        return Apply(expression.function, tuple(map(factored, expression.operands)), expression.slope)

    given = tuple(gives)
    known: dict[str, Expression] = {}
    made: list[tuple[str, Expression]] = []
    for name, expression in body:
        # A constant, or another name for a value, is put in where it is read.
        simple = with_values(expression, known)
        if isinstance(simple, Number | Read) and name not in given:
            known[name] = simple
        else:
            made.append((name, factored(simple)))
    found = tuple((name, expression) for expression, name in uniform.items())
    return _cleaned(Equations(tuple(made), tuple(states), parameters, found, given))


def _cleaned(equations: Equations) -> Equations:
    """Without equations that nothing given depends on, and without states and parameters that none reads."""
    wanted = set(equations.gives)
    kept: list[tuple[str, Expression]] = []
    for name, expression in reversed(equations.body):
        if name in wanted:
            kept.append((name, expression))
            wanted.update(read.key for read in reads(expression))
    states = tuple(name for name in equations.states if Read(name, 1).key in wanted)
    uniform = tuple((name, expression) for name, expression in equations.uniform if name in wanted)
    wanted.update(read.key for _, expression in uniform for read in reads(expression))
    learned = tuple(each for each in equations.learned if each.name in wanted)
    return replace(equations, body=tuple(reversed(kept)), states=states, learned=learned, uniform=uniform)
