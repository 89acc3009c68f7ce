"""From the expressions of a definition to equations: parameters become numbers, the rest arithmetic on values.

What depends on parameters alone is worked out here, a choice between equations (`a if reset == hard else b`) included;
what depends on the current, a state or a learned parameter becomes an expression of `bcgraph.equations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bcgraph import schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.evaluate import Failed, Scope
from bcgraph.dsl.elaboration.library import standard_names
from bcgraph.dsl.tokens import MAX_NAME
from bcgraph.dsl.wording import short
from bcgraph.equations import expression as E
from bcgraph.equations.simplify import NoValueError, simplified
from bcgraph.errors import nearest

Constant: TypeAlias = bool | float | str | schema.Surrogate
Meaning: TypeAlias = Constant | E.Expression

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "dt": 1.0}
"""Numbers with a name: pi, and the length of a step."""

_OPERATORS = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow",
    ">": "gt", ">=": "ge", "<": "lt", "<=": "le", "==": "eq", "!=": "ne", "and": "and", "or": "or",
}  # fmt: skip
_CALLED = {name: function for name, function in E.FUNCTIONS.items() if function.written}


@dataclass(slots=True)
class Meanings:
    """What names mean while a definition is worked out.

    `values` are parameters, states, learned names and what has been assigned; `later` what is assigned further down.
    `surrogate` finds the surrogate that a call or a name means.
    """

    scope: Scope
    surrogate: Callable[[syntax.Expression, Scope], schema.Surrogate | None]
    values: dict[str, Meaning] = field(default_factory=dict)
    later: Container[str] = frozenset()
    words: bool = True

    def of(self, expression: syntax.Expression) -> Meaning:
        """The meaning of an expression. Raises Failed once the reason is reported (E030, E031, E042, E044)."""
        self.scope.budget.spend(expression.span)
        return _RULES[type(expression)](self, expression)

    def value(self, expression: syntax.Expression) -> E.Expression:
        """A meaning that is a number or a value; a condition, a word or a surrogate is none (E044)."""
        found = self.of(expression)
        if isinstance(found, float) and not isinstance(found, bool):
            return E.Number(found)
        if isinstance(found, E.Apply) and E.FUNCTIONS[found.function].condition:
            hint = "write `1 if ... else 0`"
            raise self.scope.fail("E044", "a comparison is not a number", expression, hint)
        if isinstance(found, bool | str | schema.Surrogate):
            raise self.scope.fail("E044", f"{_named(found)} is not a number", expression)
        return found

    def number(self, expression: syntax.Expression, what: str) -> float:
        """A meaning that is known now (E044 where it is not)."""
        found = self.value(expression)
        if not isinstance(found, E.Number):
            raise self.scope.fail("E044", f"{what} has to be a number that the parameters decide", expression)
        return found.value

    def condition(self, expression: syntax.Expression) -> bool | E.Expression:
        """A meaning that is true or false (E044 where it is not)."""
        found = self.of(expression)
        if isinstance(found, bool) or (isinstance(found, E.Apply) and E.FUNCTIONS[found.function].condition):
            return found
        raise self.scope.fail("E044", "a condition is expected here: a comparison, `true` or `false`", expression)

    def applied(self, function: str, place: syntax.Expression, *operands: E.Expression, slope: Any = None) -> Meaning:
        """A function of values, worked out where all of them are numbers (E044 where that has no value)."""
        try:
            made = simplified(E.Apply(function, operands, slope))
        except NoValueError as problem:
            by_zero = problem.part.function == "div"
            message = "division by zero" if by_zero else "this has no value, or is out of range"
            raise self.scope.fail("E044", message, place) from None
        if isinstance(made, E.Number):
            return bool(made.value) if E.FUNCTIONS[function].condition else made.value
        return made


def _named(value: object) -> str:
    match value:
        case bool():
            return "`true`" if value else "`false`"
        case schema.Surrogate():
            return f"the surrogate `{value.name}`"
        case _:
            return f"the word `{short(str(value))}`"


def _number(m: Meanings, e: syntax.Number) -> Meaning:
    return float(e.value)


def _boolean(m: Meanings, e: syntax.Boolean) -> Meaning:
    return e.value


def _string(m: Meanings, e: syntax.String) -> Meaning:
    raise m.scope.fail("E044", "a string is not a number", e)


def _broken(m: Meanings, e: syntax.Broken) -> Meaning:
    raise Failed


def _name(m: Meanings, e: syntax.Name) -> Meaning:
    if e.name in m.values:
        found = m.values[e.name]
        if isinstance(found, _Broken):
            raise Failed
        return found
    if e.name in CONSTANTS:
        return CONSTANTS[e.name]
    if e.name in m.later:
        hint = "equations are computed in order; what the step before left has to be a `state`"
        raise m.scope.fail("E030", f"`{e.name}` is read before it is assigned", e, hint)
    surrogate = m.surrogate(e, m.scope)
    if surrogate is not None:
        return surrogate
    known = [*m.values, *CONSTANTS]
    hint = nearest(e.name[:MAX_NAME], known) or f"known here: {', '.join(f'`{n}`' for n in known[:10])}"
    raise m.scope.fail("E030", f"`{short(e.name)}` is not defined here", e, hint)


def _dotted(m: Meanings, e: syntax.Dotted) -> Meaning:
    raise m.scope.fail("E044", f"`{short(e.name)}` has no meaning in a definition: equations are elementwise", e)


def _list(m: Meanings, e: syntax.List) -> Meaning:
    raise m.scope.fail("E044", "a list has no meaning in a definition: equations are elementwise", e)


def _unary(m: Meanings, e: syntax.Unary) -> Meaning:
    if e.operator == "not":
        found = m.condition(e.operand)
        return not found if isinstance(found, bool) else E.Apply("not", (found,))
    return m.applied("neg", e, m.value(e.operand))


def _binary(m: Meanings, e: syntax.Binary) -> Meaning:
    if e.operator in ("and", "or"):
        return _both(m, e)
    if e.operator in ("==", "!="):
        a, b = _compared(m, e)
        if isinstance(a, bool | str) or isinstance(b, bool | str):
            return (a == b) == (e.operator == "==")
    if e.operator not in _OPERATORS:
        return _whole(m, e)
    return m.applied(_OPERATORS[e.operator], e, m.value(e.left), m.value(e.right))


def _compared(m: Meanings, e: syntax.Binary) -> tuple[Meaning, Meaning]:
    """Both sides of an equality: a name that means nothing is a word where the other side is one."""
    sides: list[Meaning | None] = [
        None if isinstance(side, syntax.Name) and _unknown(m, side) else m.of(side) for side in (e.left, e.right)
    ]
    found: list[Meaning] = []
    for side, value, other in zip((e.left, e.right), sides, reversed(sides), strict=True):
        if value is None and isinstance(other, str) and isinstance(side, syntax.Name):
            found.append(side.name)
        else:
            found.append(m.of(side) if value is None else value)
    return found[0], found[1]


def _unknown(m: Meanings, name: syntax.Name) -> bool:
    return name.name not in m.values and name.name not in CONSTANTS and name.name not in m.later


def _both(m: Meanings, e: syntax.Binary) -> Meaning:
    left = m.condition(e.left)
    decided = e.operator == "or"
    if isinstance(left, bool):
        return left if left == decided else m.condition(e.right)
    right = m.condition(e.right)
    if isinstance(right, bool):
        return right if right == decided else left
    return E.Apply(e.operator, (left, right))


def _whole(m: Meanings, e: syntax.Binary) -> Meaning:
    """`//` and `%`, of numbers alone."""
    a, b = m.number(e.left, f"an operand of `{e.operator}`"), m.number(e.right, f"an operand of `{e.operator}`")
    if b == 0:
        raise m.scope.fail("E044", "division by zero", e)
    return a // b if e.operator == "//" else a % b


def _conditional(m: Meanings, e: syntax.Conditional) -> Meaning:
    test = m.condition(e.test)
    if isinstance(test, bool):
        return m.of(e.then if test else e.otherwise)
    return m.applied("where", e, test, m.value(e.then), m.value(e.otherwise))


def _call(m: Meanings, e: syntax.Call) -> Meaning:
    function = _CALLED.get(e.name)
    if function is None:
        surrogate = m.surrogate(e, m.scope)
        if surrogate is not None:
            return surrogate
        known = nearest(e.name, _CALLED) or f"known: {', '.join(f'`{n}`' for n in _CALLED)}"
        raise m.scope.fail("E031", f"there is no function `{short(e.name)}`", e.name_span, known)
    fires = e.name in ("spike", "quantize")
    allowed = (function.arity, function.arity + 1) if e.name == "quantize" else (function.arity + fires,)
    if len(e.arguments) not in allowed or any(a.name not in (None, "surrogate") for a in e.arguments):
        hint = {"spike": "write `spike(u - threshold, surrogate)`", "quantize": "write `quantize(u, 0, 4)`"}.get(e.name)
        count = " or ".join(map(str, allowed))
        raise m.scope.fail("E042", f"`{e.name}` takes {count} argument{'s' * (allowed != (1,))}", e, hint)
    values = [m.value(a.value) for a in e.arguments[: function.arity]]
    slope = None
    for argument in e.arguments[function.arity :]:
        # A surrogate may have the name of a function.
        found: Meaning | None = m.surrogate(argument.value, m.scope)
        if found is None and isinstance(argument.value, syntax.Call) and argument.value.name not in _CALLED:
            named = standard_names("surrogate")
            hint = nearest(argument.value.name, named) or f"known: {', '.join(f'`{n}`' for n in named)}"
            wrong = f"there is no surrogate `{short(argument.value.name)}`"
            raise m.scope.fail("E031", wrong, argument.value.name_span, hint)
        found = m.of(argument.value) if found is None else found
        if not isinstance(found, schema.Surrogate):
            hint = "a surrogate: `triangle()`, or a parameter that holds one"
            raise m.scope.fail("E044", f"`{e.name}` takes a surrogate here", argument.value, hint)
        slope = found.derivative
    if e.name == "quantize" and not all(isinstance(value, E.Number) for value in values[1:]):
        raise m.scope.fail("E044", "the bounds of `quantize` are numbers that the parameters decide", e)
    return m.applied(e.name, e, *values, slope=slope)


@dataclass(frozen=True, slots=True)
class _Broken:
    """The meaning of a name whose definition was reported."""


BROKEN: Any = _Broken()

_RULES: Mapping[type, Callable[[Meanings, Any], Meaning]] = {
    syntax.Number: _number,
    syntax.String: _string,
    syntax.Boolean: _boolean,
    syntax.Broken: _broken,
    syntax.Name: _name,
    syntax.Dotted: _dotted,
    syntax.List: _list,
    syntax.Unary: _unary,
    syntax.Binary: _binary,
    syntax.Conditional: _conditional,
    syntax.Call: _call,
}
