"""What an expression is worth."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.sizes import Budget
from bcgraph.dsl.source import Reporter
from bcgraph.dsl.tokens import MAX_NAME
from bcgraph.dsl.walk import names_in
from bcgraph.dsl.wording import short, type_name
from bcgraph.errors import Span, nearest
from bcgraph.shapes import Shape

Value: TypeAlias = bool | int | float | str | list[Any]

_MAX_NUMBER = 2**63
INPUT = ("input.channels", "input.height", "input.width", "input.length", "input.features")
_AXES = {3: ("channels", "height", "width"), 2: ("channels", "length"), 1: ("features",)}
_KINDS = {3: "an image", 2: "a signal", 1: "a vector"}


class Failed(Exception):  # noqa: N818 - it is no error, it says that one was reported
    """An expression has no value, and the reporter knows why. Never leaves the package."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions can refer to: names, and the shape that enters the block (None where it is not known).

    Outside a block there are no names, and a word stands for itself. Inside a block of the standard library, `anchor`
    is the call in the user's text that led there, and `origins` says where in that text the value of a name was
    written: findings are reported there, since the text of the library is not at fault. `uses` are the plugins of the
    text.
    """

    reporter: Reporter
    budget: Budget
    in_block: bool = False
    values: Mapping[str, Value] = field(default_factory=dict)
    shape: Shape | None = None
    notes: tuple[str, ...] = ()
    anchor: Span | None = None
    origins: Mapping[str, Span] = field(default_factory=dict)
    uses: tuple[str, ...] = ()

    def fail(self, code: str, message: str, place: Span | syntax.Expression, hint: str | None = None) -> Failed:
        """Report a finding; the caller raises what this returns."""
        span, notes = self.locate(place)
        self.reporter.add(code, message, span, hint, notes)
        return Failed()

    def locate(self, place: Span | syntax.Expression) -> tuple[Span, tuple[str, ...]]:
        """Where to report a finding about `place`, and the notes that say how it was reached."""
        span = place if isinstance(place, Span) else place.span
        if self.anchor is None:
            return span, self.notes
        origin = None if isinstance(place, Span) else self.origin(place)
        return origin or self.anchor, (f"it comes up at {span}", *self.notes)

    def origin(self, expression: syntax.Expression) -> Span | None:
        """Where in the user's text the value of an expression was written, if that is one place."""
        if self.anchor is None:
            return expression.span
        return next((self.origins[n.name] for n in names_in(expression) if n.name in self.origins), None)


def evaluate(expression: syntax.Expression, scope: Scope, words: frozenset[str] = frozenset()) -> Value:
    """The value of an expression; a name that is not bound stands for itself when it is one of `words`.

    Raises Failed once the reason is reported (E030, E044).
    """
    scope.budget.spend(expression.span)
    return _RULES[type(expression)](expression, scope, words)


def _literal(expression: Any, scope: Scope, words: frozenset[str]) -> Value:
    value: Value = expression.value
    return value


def _broken(expression: syntax.Broken, scope: Scope, words: frozenset[str]) -> Value:
    raise Failed


def _name(expression: syntax.Name, scope: Scope, words: frozenset[str]) -> Value:
    if expression.name in scope.values:
        return scope.values[expression.name]
    if expression.name in words:
        return expression.name
    raise unknown_name(expression, scope, words)


def _dotted(expression: syntax.Dotted, scope: Scope, words: frozenset[str]) -> Value:
    name = expression.name
    if name not in INPUT:
        raise unknown_name(expression, scope, words)
    if not scope.in_block:
        raise scope.fail("E044", f"`{name}` has a value only inside a block", expression)
    if scope.shape is None:
        raise Failed
    axes = _AXES[len(scope.shape)]
    axis = name.removeprefix("input.")
    if axis not in axes:
        what = _KINDS[len(scope.shape)]
        known = ", ".join(f"`input.{a}`" for a in axes)
        raise scope.fail("E044", f"{what} enters this block: it has no {axis}", expression, f"it has {known}")
    return scope.shape[axes.index(axis)]


def unknown_name(expression: syntax.Name | syntax.Dotted, scope: Scope, words: frozenset[str]) -> Failed:
    """Report a name that means nothing here (E030); the caller raises what this returns."""
    hint = nearest(expression.name[:MAX_NAME], [*scope.values, *sorted(words), *INPUT])
    if hint is None and scope.values:
        hint = "known here: " + ", ".join(f"`{n}`" for n in list(scope.values)[:10])
    return scope.fail("E030", f"`{short(expression.name)}` is not defined here", expression, hint)


def _list(expression: syntax.List, scope: Scope, words: frozenset[str]) -> Value:
    return [evaluate(item, scope, words) for item in expression.items]


def _call(expression: syntax.Call, scope: Scope, words: frozenset[str]) -> Value:
    raise scope.fail("E044", f"a call of `{expression.name}` is not a value here", expression)


def _truth(expression: syntax.Expression, scope: Scope, words: frozenset[str], what: str) -> bool:
    value = evaluate(expression, scope, words)
    if not isinstance(value, bool):
        message = f"{what} needs `true` or `false`, not {type_name(value)}"
        raise scope.fail("E044", message, expression)
    return value


def truth(expression: syntax.Expression, scope: Scope, what: str) -> bool:
    """The value of a condition. Raises Failed where it is not a boolean (E044)."""
    return _truth(expression, scope, frozenset(), what)


def _conditional(expression: syntax.Conditional, scope: Scope, words: frozenset[str]) -> Value:
    chosen = expression.then if _truth(expression.test, scope, words, "a condition") else expression.otherwise
    return evaluate(chosen, scope, words)


def _unary(expression: syntax.Unary, scope: Scope, words: frozenset[str]) -> Value:
    if expression.operator == "not":
        return not _truth(expression.operand, scope, words, "`not`")
    value = evaluate(expression.operand, scope, words)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise scope.fail("E044", f"`-` needs a number, not {type_name(value)}", expression.operand)
    return -value


def _binary(expression: syntax.Binary, scope: Scope, words: frozenset[str]) -> Value:
    symbol = expression.operator
    if symbol in ("and", "or"):
        left = _truth(expression.left, scope, words, f"`{symbol}`")
        return left if left == (symbol == "or") else _truth(expression.right, scope, words, f"`{symbol}`")
    a, b = evaluate(expression.left, scope, words), evaluate(expression.right, scope, words)
    if symbol in ("==", "!="):
        return (a == b) == (symbol == "==")
    for value, operand in ((a, expression.left), (b, expression.right)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise scope.fail("E044", f"`{symbol}` needs numbers, not {type_name(value)}", operand)
    assert isinstance(a, int | float)
    assert isinstance(b, int | float)
    if symbol in _ORDER:
        return _ORDER[symbol](a, b)
    try:
        result = _ARITHMETIC[symbol](a, b)
    except ZeroDivisionError:
        raise scope.fail("E044", "division by zero", expression) from None
    except OverflowError:
        result = math.inf
    if not abs(result) < (_MAX_NUMBER if isinstance(result, int) else math.inf):
        raise scope.fail("E044", "the result is out of range", expression)
    return result


def _power(a: float, b: float) -> int | float:
    if abs(a) > 1 and abs(b) > 1_000:
        raise OverflowError
    if a < 0 and not float(b).is_integer():
        # The result would not be a real number.
        raise OverflowError
    result: int | float = a**b
    return result


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], int | float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
}
_RULES: dict[type, Callable[[Any, Scope, frozenset[str]], Value]] = {
    syntax.Number: _literal,
    syntax.String: _literal,
    syntax.Boolean: _literal,
    syntax.Broken: _broken,
    syntax.Name: _name,
    syntax.Dotted: _dotted,
    syntax.List: _list,
    syntax.Unary: _unary,
    syntax.Binary: _binary,
    syntax.Conditional: _conditional,
    syntax.Call: _call,
}
