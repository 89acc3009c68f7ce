"""Neurons as C statements for one element, made from their equations, without surrogates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bcgraph.equations.expression import FUNCTIONS, Apply, Number, Read
from bcgraph.equations.flat import Leaf, flattened
from bcgraph.equations.neuron import Equations


def number(value: float) -> str:
    """A float literal that reads back as the same float32."""
    return f"{float(np.float32(value))!r}f" if np.isfinite(value) else "INFINITY" if value > 0 else "-INFINITY"


@dataclass(slots=True)
class Statements:
    """The C lines that compute what equations give from `known` names, and the C names of the results."""

    equations: Equations
    known: dict[str, str]
    lines: list[str] = field(default_factory=list)
    calls: dict[str, Apply] = field(default_factory=dict)

    def results(self) -> dict[str, str]:
        """For each name in the equations' `gives`, a C expression; `lines` holds what stands before."""
        flat = flattened(self.equations)
        self.calls = {line.name: line.call for line in flat.lines}
        return {name: self.value(leaf) for name, leaf in flat.results}

    def value(self, leaf: Leaf) -> str:
        """The C name of a value, computed where it is first asked for."""
        if isinstance(leaf, Number):
            return number(leaf.value)
        if leaf.key not in self.known:
            call = self.calls[leaf.key]
            text = _EMIT[call.function](self, call)
            name = f"t{len(self.lines)}"
            kind = "int" if FUNCTIONS[call.function].condition else "float"
            self.lines.append(f"const {kind} {name} = {text};")
            self.known[leaf.key] = name
        return self.known[leaf.key]

    def operands(self, call: Apply) -> list[str]:
        """The C names of what a function reads."""
        return [self.value(operand) for operand in call.operands]  # type: ignore[arg-type]


Emit = Callable[[Statements, Apply], str]


def _infix(sign: str) -> Emit:
    return lambda to, call: f" {sign} ".join(_bracketed(each) for each in to.operands(call))


def _bracketed(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _called(text: str) -> Emit:
    return lambda to, call: text.format(*to.operands(call))


def _spike(to: Statements, call: Apply) -> str:
    """`x > 0`; of a difference, its operands are compared."""
    (x,) = call.operands
    inner = to.calls.get(x.key) if isinstance(x, Read) else None
    left, right = (
        to.operands(inner) if inner is not None and inner.function == "sub" else (to.value(x), number(0.0))  # type: ignore[arg-type]
    )
    return f"{left} > {right} ? 1.0f : 0.0f"


_EMIT: Mapping[str, Emit] = {
    "add": _infix("+"),
    "sub": _infix("-"),
    "mul": _infix("*"),
    "div": _infix("/"),
    "pow": _called("powf({0}, {1})"),
    "neg": _called("-({0})"),
    "gt": _infix(">"),
    "ge": _infix(">="),
    "lt": _infix("<"),
    "le": _infix("<="),
    "eq": _infix("=="),
    "ne": _infix("!="),
    "and": _infix("&&"),
    "or": _infix("||"),
    "not": _called("!{0}"),
    "where": _called("{0} ? {1} : {2}"),
    "indicator": _called("{0} ? 1.0f : 0.0f"),
    "sign": _called("(float)(({0} > 0.0f) - ({0} < 0.0f))"),
    "exp": _called("expf({0})"),
    "log": _called("logf({0})"),
    "sqrt": _called("sqrtf({0})"),
    "abs": _called("fabsf({0})"),
    "min": _called("fminf({0}, {1})"),
    "max": _called("fmaxf({0}, {1})"),
    "clamp": _called("fminf(fmaxf({0}, {1}), {2})"),
    "floor": _called("floorf({0})"),
    "round": _called("rintf({0})"),
    "sigmoid": _called("1.0f / (1.0f + expf(-({0})))"),
    "tanh": _called("tanhf({0})"),
    "softplus": _called("fmaxf({0}, 0.0f) + log1pf(expf(-fabsf({0})))"),
    "relu": _called("fmaxf({0}, 0.0f)"),
    "detach": _called("{0}"),
    "spike": _spike,
    "quantize": _called("fminf(fmaxf(rintf({0}), {1}), {2})"),
}
"""How each function becomes C."""

WRITTEN = frozenset(_EMIT)
"""Every function that can be written."""
