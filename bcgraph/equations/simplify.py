"""Simplification: constants are worked out, and what adds or multiplies nothing is left out.

A value times zero is zero here, though not for infinite values: a state that is missing in the first step is zero, and
so is what it is multiplied with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from bcgraph.equations.expression import FUNCTIONS, Apply, Expression, Number, replaced

ZERO = Number(0.0)
ONE = Number(1.0)

Operands: TypeAlias = tuple[Expression, ...]


class NoValueError(ArithmeticError):
    """A constant part of an expression has no value: a division by zero, a logarithm of zero, a number out of range.

    `part` is the expression.
    """

    def __init__(self, part: Apply) -> None:
        super().__init__(part.function)
        self.part = part


def simplified(expression: Expression) -> Expression:
    """An equal expression, with fewer operations where that is possible. Raises NoValueError."""
    if not isinstance(expression, Apply):
        return expression
    return apply(expression.function, tuple(map(simplified, expression.operands)), expression.slope)


def apply(function: str, operands: Operands, slope: Expression | None = None) -> Expression:
    """`function` of operands that are simplified themselves. Raises NoValueError for a constant without value."""
    made = Apply(function, operands, slope)
    numbers = [operand.value for operand in operands if isinstance(operand, Number)]
    if len(numbers) == len(operands):
        return Number(_value(made, numbers))
    if function in ("div", "pow") and operands[-1] == ZERO and function == "div":
        raise NoValueError(made)
    rule = _RULES.get(function)
    found = rule(operands) if rule is not None else None
    return made if found is None else found


def _value(made: Apply, numbers: list[float]) -> float:
    try:
        value = float(FUNCTIONS[made.function].value(*numbers))
    except (ArithmeticError, ValueError, TypeError):
        raise NoValueError(made) from None
    if not math.isfinite(value):
        raise NoValueError(made)
    return value


def _add(operands: Operands) -> Expression | None:
    a, b = operands
    return b if a == ZERO else a if b == ZERO else None


def _sub(operands: Operands) -> Expression | None:
    a, b = operands
    return a if b == ZERO else apply("neg", (b,)) if a == ZERO else None


def _mul(operands: Operands) -> Expression | None:
    a, b = operands
    if ZERO in operands:
        return ZERO
    return b if a == ONE else a if b == ONE else None


def _div(operands: Operands) -> Expression | None:
    a, b = operands
    return ZERO if a == ZERO else a if b == ONE else None


def _pow(operands: Operands) -> Expression | None:
    a, b = operands
    return ONE if b == ZERO else a if b == ONE else None


def _neg(operands: Operands) -> Expression | None:
    (a,) = operands
    return a.operands[0] if isinstance(a, Apply) and a.function == "neg" else None


def _where(operands: Operands) -> Expression | None:
    test, a, b = operands
    if isinstance(test, Number):
        return a if test.value else b
    return a if a == b else None


def _and(operands: Operands) -> Expression | None:
    a, b = operands
    if ZERO in operands:
        return ZERO
    return b if a == ONE else a if b == ONE else None


def _or(operands: Operands) -> Expression | None:
    a, b = operands
    if ONE in operands:
        return ONE
    return b if a == ZERO else a if b == ZERO else None


_RULES: Mapping[str, Callable[[Operands], Expression | None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "neg": _neg,
    "where": _where,
    "and": _and,
    "or": _or,
}


def with_values(expression: Expression, values: Mapping[str, Expression]) -> Expression:
    """The expression with values put in for reads, by `Read.key`, and simplified."""
    return simplified(replaced(expression, lambda read: values.get(read.key, read)))
