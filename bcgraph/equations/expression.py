"""Elementwise expressions: the right-hand sides of a neuron's equations, and the functions that may stand in them.

An expression is a number, a read of a name, or a function applied to expressions. `Read("v", 1)` is v of the step
before. All values of one neuron have the shape of its current, but for learned parameters, which are scalars or have
one value a channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Read:
    """The value of a name, `delay` steps ago."""

    name: str
    delay: int = 0

    @property
    def key(self) -> str:
        """The name with its delay, as the temporal graph writes it: `v@-1`."""
        return f"{self.name}@-{self.delay}" if self.delay else self.name


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of `FUNCTIONS` applied to its operands.

    `slope` is what `spike` and `quantize` have for a derivative, an expression of `x`, the operand; None for the
    derivative that `quantize` has by itself.
    """

    function: str
    operands: tuple[Expression, ...]
    slope: Expression | None = None


Expression: TypeAlias = Number | Read | Apply

X = Read("x")
"""The operand of a spike in its surrogate: the distance of the membrane from the threshold."""


@dataclass(frozen=True, slots=True)
class Function:
    """What a function takes and what it is worth on numbers. `condition` says that it gives true or false.

    `written` says that a text may call it by its name; others are written as operators, or only derived.
    """

    arity: int
    value: Callable[..., float]
    condition: bool = False
    written: bool = True


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _round(x: float) -> float:
    # Halves go to the even neighbor, as torch.round and ONNX have it.
    return float(round(x))


def _quantize(x: float, low: float, high: float) -> float:
    return min(max(_round(x), low), high)


def _clamp(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def _sign(x: float) -> float:
    return float((x > 0) - (x < 0))


FUNCTIONS: Mapping[str, Function] = {
    "add": Function(2, lambda a, b: a + b, written=False),
    "sub": Function(2, lambda a, b: a - b, written=False),
    "mul": Function(2, lambda a, b: a * b, written=False),
    "div": Function(2, lambda a, b: a / b, written=False),
    "pow": Function(2, lambda a, b: a**b, written=False),
    "neg": Function(1, lambda a: -a, written=False),
    "gt": Function(2, lambda a, b: a > b, condition=True, written=False),
    "ge": Function(2, lambda a, b: a >= b, condition=True, written=False),
    "lt": Function(2, lambda a, b: a < b, condition=True, written=False),
    "le": Function(2, lambda a, b: a <= b, condition=True, written=False),
    "eq": Function(2, lambda a, b: a == b, condition=True, written=False),
    "ne": Function(2, lambda a, b: a != b, condition=True, written=False),
    "and": Function(2, lambda a, b: bool(a) and bool(b), condition=True, written=False),
    "or": Function(2, lambda a, b: bool(a) or bool(b), condition=True, written=False),
    "not": Function(1, lambda a: not a, condition=True, written=False),
    "where": Function(3, lambda c, a, b: a if c else b, written=False),
    "indicator": Function(1, lambda c: 1.0 if c else 0.0, written=False),
    "sign": Function(1, _sign, written=False),
    "exp": Function(1, math.exp),
    "log": Function(1, math.log),
    "sqrt": Function(1, math.sqrt),
    "abs": Function(1, abs),
    "min": Function(2, min),
    "max": Function(2, max),
    "clamp": Function(3, _clamp),
    "floor": Function(1, lambda a: float(math.floor(a))),
    "round": Function(1, _round),
    "sigmoid": Function(1, _sigmoid),
    "tanh": Function(1, math.tanh),
    "softplus": Function(1, _softplus),
    "relu": Function(1, lambda a: max(a, 0.0)),
    "detach": Function(1, lambda a: a),
    "spike": Function(1, lambda a: 1.0 if a > 0 else 0.0),
    "quantize": Function(3, _quantize),
}
"""Every function that an expression can hold."""


def reads(expression: Expression) -> Iterator[Read]:
    """Every read in an expression, from left to right; those of a slope, which reads only `x`, are not among them."""
    match expression:
        case Read():
            yield expression
        case Apply(operands=operands):
            for operand in operands:
                yield from reads(operand)


def size(expression: Expression) -> int:
    """How many numbers, reads and functions there are in an expression."""
    if isinstance(expression, Apply):
        slope = size(expression.slope) if expression.slope is not None else 0
        return 1 + slope + sum(map(size, expression.operands))
    return 1


def replaced(expression: Expression, known: Callable[[Read], Expression]) -> Expression:
    """The expression with each read replaced by what `known` gives for it."""
    match expression:
        case Read():
            return known(expression)
        case Apply(function=function, operands=operands, slope=slope):
            return Apply(function, tuple(replaced(operand, known) for operand in operands), slope)
        case _:
            return expression


# --- Text ---------------------------------------------------------------------------------------------------

_OPERATORS: Mapping[str, tuple[str, int]] = {
    "or": ("or", 2), "and": ("and", 3), "not": ("not ", 4),
    "gt": (">", 5), "ge": (">=", 5), "lt": ("<", 5), "le": ("<=", 5), "eq": ("==", 5), "ne": ("!=", 5),
    "add": ("+", 6), "sub": ("-", 6), "mul": ("*", 7), "div": ("/", 7), "neg": ("-", 8), "pow": ("**", 9),
}  # fmt: skip
_ATOM = 10


def text(expression: Expression) -> str:
    """An expression in the notation of the language, `v[t-1]` for a value of the step before."""
    return _text(expression)[0]


def _text(expression: Expression) -> tuple[str, int]:
    match expression:
        case Number(value=value):
            shown = str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
            return (shown, _ATOM) if value >= 0 else (shown, 8)
        case Read(name=name, delay=delay):
            return (f"{name}[t-{delay}]" if delay else name), _ATOM
        case Apply(function="where", operands=(test, then, otherwise)):
            return f"{_within(then, 2)} if {_within(test, 2)} else {_within(otherwise, 1)}", 1
        case Apply(function=function, operands=(only,)) if function in _OPERATORS:
            sign, level = _OPERATORS[function]
            return f"{sign}{_within(only, level)}", level
        case Apply(function="pow", operands=(left, right)):
            return f"{_within(left, _ATOM)} ** {_within(right, 8)}", 9
        case Apply(function=function, operands=(left, right)) if function in _OPERATORS:
            sign, level = _OPERATORS[function]
            return f"{_within(left, level + (level == 5))} {sign} {_within(right, level + 1)}", level
        case Apply(function=function, operands=operands, slope=slope):
            parts = [text(operand) for operand in operands] + ([text(slope)] if slope is not None else [])
            return f"{function}({', '.join(parts)})", _ATOM


def _within(expression: Expression, least: int) -> str:
    shown, level = _text(expression)
    return shown if level >= least else f"({shown})"
