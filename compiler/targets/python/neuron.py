"""Neurons as functions of Python text, made from their equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bcgraph.equations.expression import FUNCTIONS, Apply, Expression, Number, Read, reads
from bcgraph.equations.neuron import CURRENT, Equations


def neuron_text(name: str, equations: Equations, channels: Sequence[str]) -> str:
    """A function of current, states of the step before and values by channel, which returns what the equations give."""
    arguments = [CURRENT, *(_name(Read(state, 1)) for state in equations.states), *map(_plain, channels)]
    annotated = ", ".join(f"{argument}: Tensor" for argument in arguments)
    lines = [f"def {name}({annotated}):", f'    """One step of `{name}`: returns {", ".join(equations.gives)}."""']
    narrow = frozenset(channels)
    for given, expression in equations.body:
        written = _text(expression)[0]
        if narrow.issuperset(read.key for read in reads(expression)):
            # What only numbers and values by channel reach is wanted for every element.
            written = f"torch.zeros_like({CURRENT}) + {_within(expression, 5)}"
        lines.append(f"    {_plain(given)} = {written}")
    results = [_plain(given) for given in equations.gives]
    lines.append(f"    return {results[0]}" if len(results) == 1 else f"    return {', '.join(results)}")
    return "\n".join(lines)


def _name(read: Read) -> str:
    return _plain(read.name) + "_before" * (read.delay > 0)


def _plain(name: str) -> str:
    return name.replace("$", "k").replace(".", "_").replace("#", "_")


_OPERATORS: Mapping[str, tuple[str, int]] = {
    "or": ("|", 1), "and": ("&", 3), "gt": (">", 0), "ge": (">=", 0), "lt": ("<", 0), "le": ("<=", 0),
    "eq": ("==", 0), "ne": ("!=", 0), "add": ("+", 4), "sub": ("-", 4), "mul": ("*", 5), "div": ("/", 5),
}  # fmt: skip
_UNARY: Mapping[str, str] = {"neg": "-", "not": "~"}
_ATOM = 9


def _text(expression: Expression) -> tuple[str, int]:
    """Python text, and how tightly it binds."""
    match expression:
        case Number(value=value):
            return repr(value), _ATOM if value >= 0 else 6
        case Read():
            return _name(expression), _ATOM
        case Apply(function=function, operands=(left, right)) if function in _OPERATORS:
            sign, level = _OPERATORS[function]
            return f"{_within(left, max(level, 1))} {sign} {_within(right, level + 1)}", level
        case Apply(function=function, operands=(only,)) if function in _UNARY:
            return f"{_UNARY[function]}{_within(only, 7)}", 6
        case Apply(function="pow", operands=(left, right)):
            return f"{_within(left, _ATOM)} ** {_within(right, 7)}", 8
        case Apply(function=function, operands=operands):
            return _CALLED[function](expression, [_text(operand)[0] for operand in operands]), _ATOM


def _within(expression: Expression, least: int) -> str:
    shown, level = _text(expression)
    return shown if level >= least else f"({shown})"


Write = Callable[[Apply, Sequence[str]], str]


def _torch(name: str) -> Write:
    return lambda call, parts: f"torch.{name}({', '.join(parts)})"


def _bound(low: bool) -> Write:
    """`max` (a lower bound) or `min`; with a number it is a clamp."""
    name = "min" if low else "max"

    def write(call: Apply, parts: Sequence[str]) -> str:
        a, b = parts
        if isinstance(call.operands[0], Number):
            a, b = b, a
        if any(isinstance(operand, Number) for operand in call.operands):
            return f"torch.clamp({a}, {name}={b})"
        return f"torch.{'maximum' if low else 'minimum'}({a}, {b})"

    return write


def _spike(call: Apply, parts: Sequence[str]) -> str:
    match call.operands[0]:
        case Apply(function="sub", operands=(left, right)):
            test, like = f"{_within(left, 1)} > {_within(right, 1)}", left
        case operand:
            test, like = f"{_within(operand, 1)} > 0", operand
    name = next((_name(read) for read in reads(like)), CURRENT)
    return f"({test}).to({name}.dtype)"


def _indicator(call: Apply, parts: Sequence[str]) -> str:
    return f"({parts[0]}).to({CURRENT}.dtype)"


def _detach(call: Apply, parts: Sequence[str]) -> str:
    return parts[0] if isinstance(call.operands[0], Read) else f"({parts[0]})"


def _quantize(call: Apply, parts: Sequence[str]) -> str:
    return f"torch.clamp(torch.round({parts[0]}), {parts[1]}, {parts[2]})"


def _softplus(call: Apply, parts: Sequence[str]) -> str:
    return f"F.softplus({parts[0]})"


_CALLED: Mapping[str, Write] = {
    "where": _torch("where"),
    "indicator": _indicator,
    "exp": _torch("exp"),
    "log": _torch("log"),
    "sqrt": _torch("sqrt"),
    "abs": _torch("abs"),
    "sign": _torch("sign"),
    "min": _bound(low=False),
    "max": _bound(low=True),
    "clamp": _torch("clamp"),
    "floor": _torch("floor"),
    "round": _torch("round"),
    "sigmoid": _torch("sigmoid"),
    "tanh": _torch("tanh"),
    "softplus": _softplus,
    "relu": _torch("relu"),
    "detach": _detach,
    "spike": _spike,
    "quantize": _quantize,
}

WRITTEN = frozenset(_CALLED) | frozenset(_OPERATORS) | frozenset(_UNARY) | {"pow"}
"""Every function that can be written."""

assert set(FUNCTIONS) >= WRITTEN
