"""The backward pass of equations: reverse-mode differentiation of flat code, line by line.

From the gradients of what a step gives follow those of its current, of the states of the step before, and of its
uniform values (what learned parameters alone decide). A spike has the derivative of its surrogate (paper eq. 5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from bcgraph.equations.expression import Number, Read
from bcgraph.equations.flat import Builder, Flat, Leaf, Line, live
from bcgraph.equations.simplify import ZERO

GRADIENT = "grad "
"""What stands before a name for its gradient; no name of a definition has a blank."""


@dataclass(frozen=True, slots=True)
class Backward:
    """The backward pass of one step. `lines` read gradients, forward values and uniform values.

    `results` are the gradients of current, states and uniform values, by key; a number where they are constant.
    `wanted` are the forward values that the lines read.
    """

    lines: tuple[Line, ...]
    results: tuple[tuple[str, Leaf], ...]
    wanted: tuple[str, ...]


def backward(forward: Flat, given: Collection[str]) -> Backward:
    """The backward pass of `forward` from the gradients of the names in `given`."""
    builder = Builder(prefix=",")
    gradients: dict[str, Leaf] = {}

    def add(target: Leaf, more: Leaf) -> None:
        if isinstance(target, Read) and more != ZERO:
            before = gradients.get(target.key, ZERO)
            gradients[target.key] = builder.call("add", before, more)

    for name, leaf in forward.results:
        if name in given:
            add(leaf, Read(GRADIENT + name))
    for line in reversed(forward.lines):
        gradient = gradients.get(line.name, ZERO)
        if gradient != ZERO:
            operands = line.call.operands
            assert all(isinstance(operand, Number | Read) for operand in operands)
            _RULES[line.call.function](builder, line, gradient, add)
    targets = (*forward.inputs, *forward.uniform)
    results = tuple((key, gradients.get(key, ZERO)) for key in targets)
    lines = live(builder.lines, (leaf for _, leaf in results))
    made = {line.name for line in lines} | {GRADIENT + name for name in given}
    read = [key for line in lines for key in line.reads]
    read += [leaf.key for _, leaf in results if isinstance(leaf, Read)]
    wanted = dict.fromkeys(key for key in read if key not in made and key not in forward.uniform)
    return Backward(lines, results, tuple(wanted))


Add = Callable[[Leaf, Leaf], None]
Rule = Callable[[Builder, Line, Leaf, Add], None]


def _leaves(line: Line) -> tuple[Leaf, ...]:
    return line.call.operands  # type: ignore[return-value]


def _add(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    x, y = _leaves(line)
    add(x, g)
    add(y, g)


def _sub(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    x, y = _leaves(line)
    add(x, g)
    if isinstance(y, Read):
        add(y, b.call("neg", g))


def _mul(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    x, y = _leaves(line)
    if isinstance(x, Read):
        add(x, b.call("mul", g, y))
    if isinstance(y, Read):
        add(y, b.call("mul", g, x))


def _div(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    x, y = _leaves(line)
    share = b.call("div", g, y)
    add(x, share)
    if isinstance(y, Read):
        add(y, b.call("neg", b.call("mul", share, Read(line.name))))


def _pow(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    x, y = _leaves(line)
    if isinstance(x, Read):
        lower = b.call("pow", x, b.call("sub", y, Number(1.0)))
        add(x, b.call("mul", g, b.call("mul", y, lower)))
    if isinstance(y, Read):
        add(y, b.call("mul", g, b.call("mul", Read(line.name), b.call("log", x))))


def _neg(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    add(_leaves(line)[0], b.call("neg", g))


def _none(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    return


def _where(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    test, x, y = _leaves(line)
    if isinstance(x, Read):
        add(x, b.call("where", test, g, ZERO))
    if isinstance(y, Read):
        add(y, b.call("where", test, ZERO, g))


def _larger(first: str) -> Rule:
    """The rule of `max` and `min`: all of the gradient goes to one operand, to the first where they are equal."""

    def rule(b: Builder, line: Line, g: Leaf, add: Add) -> None:
        x, y = _leaves(line)
        mask = b.call("indicator", b.call(first, x, y))
        if isinstance(x, Read):
            add(x, b.call("mul", g, mask))
        if isinstance(y, Read):
            add(y, b.call("sub", g, b.call("mul", g, mask)))

    return rule


def _clamp(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    # 0 at the bounds, as torch has it for `clamp` and `relu`; bounds that are values get the gradient where they hold.
    x, low, high = _leaves(line)
    inside = b.call("and", b.call("gt", x, low), b.call("lt", x, high))
    add(x, b.call("mul", g, b.call("indicator", inside)))
    if isinstance(low, Read):
        add(low, b.call("mul", g, b.call("indicator", b.call("le", x, low))))
    if isinstance(high, Read):
        add(high, b.call("mul", g, b.call("indicator", b.call("ge", x, high))))


def _exp(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    add(_leaves(line)[0], b.call("mul", g, Read(line.name)))


def _log(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    (x,) = _leaves(line)
    add(x, b.call("div", g, x))


def _sqrt(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    add(_leaves(line)[0], b.call("div", g, b.call("mul", Number(2.0), Read(line.name))))


def _abs(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    (x,) = _leaves(line)
    add(x, b.call("mul", g, b.call("sign", x)))


def _sigmoid(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    s = Read(line.name)
    add(_leaves(line)[0], b.call("mul", g, b.call("mul", s, b.call("sub", Number(1.0), s))))


def _tanh(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    r = Read(line.name)
    add(_leaves(line)[0], b.call("mul", g, b.call("sub", Number(1.0), b.call("mul", r, r))))


def _softplus(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    (x,) = _leaves(line)
    add(x, b.call("mul", g, b.call("sigmoid", x)))


def _relu(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    (x,) = _leaves(line)
    add(x, b.call("mul", g, b.call("indicator", b.call("gt", x, ZERO))))


def _spike(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    (x,) = _leaves(line)
    assert line.call.slope is not None
    add(x, b.call("mul", b.slope(line.call.slope, x), g))


def _quantize(b: Builder, line: Line, g: Leaf, add: Add) -> None:
    x, low, high = _leaves(line)
    if line.call.slope is not None:
        add(x, b.call("mul", b.slope(line.call.slope, x), g))
        return
    inside = b.call("and", b.call("ge", x, low), b.call("le", x, high))
    add(x, b.call("mul", g, b.call("indicator", inside)))


_RULES: Mapping[str, Rule] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "neg": _neg,
    "gt": _none,
    "ge": _none,
    "lt": _none,
    "le": _none,
    "eq": _none,
    "ne": _none,
    "and": _none,
    "or": _none,
    "not": _none,
    "where": _where,
    "indicator": _none,
    "sign": _none,
    "exp": _exp,
    "log": _log,
    "sqrt": _sqrt,
    "abs": _abs,
    "min": _larger("le"),
    "max": _larger("ge"),
    "clamp": _clamp,
    "floor": _none,
    "round": _none,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "softplus": _softplus,
    "relu": _relu,
    "detach": _none,
    "spike": _spike,
    "quantize": _quantize,
}
