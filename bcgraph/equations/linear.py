"""Linear forms: an expression as a sum of reads, each with a factor, and a constant."""

from __future__ import annotations

from collections.abc import Mapping

from bcgraph.equations.expression import Apply, Expression, Number, Read, reads, size
from bcgraph.equations.neuron import Equations
from bcgraph.equations.simplify import with_values

CONSTANT = ""
"""The key of the constant in a linear form."""

Linear = dict[str, float]


def linear(expression: Expression) -> Linear | None:
    """The factors of an expression by the keys of what it reads; None where it is not linear."""
    match expression:
        case Number(value=value):
            return {CONSTANT: value}
        case Read():
            return {expression.key: 1.0}
        case Apply(function="detach", operands=(only,)):
            return linear(only)
        case Apply(function="neg", operands=(only,)):
            return _scaled(linear(only), -1.0)
        case Apply(function="add" | "sub" as function, operands=(left, right)):
            return _sum(linear(left), _scaled(linear(right), 1.0 if function == "add" else -1.0))
        case Apply(function="mul", operands=(left, right)):
            for one, other in ((left, right), (right, left)):
                factor = linear(one)
                if factor is not None and set(factor) <= {CONSTANT}:
                    return _scaled(linear(other), factor.get(CONSTANT, 0.0))
        case Apply(function="div", operands=(left, right)):
            factor = linear(right)
            if factor is not None and set(factor) <= {CONSTANT} and factor.get(CONSTANT):
                return _scaled(linear(left), 1.0 / factor[CONSTANT])
    return None


def _sum(a: Linear | None, b: Linear | None) -> Linear | None:
    if a is None or b is None:
        return None
    both = {key: a.get(key, 0.0) + b.get(key, 0.0) for key in (*a, *b)}
    return {key: factor for key, factor in both.items() if factor or key == CONSTANT}


def _scaled(form: Linear | None, factor: float) -> Linear | None:
    return None if form is None else {key: value * factor for key, value in form.items()}


MAX_INLINED = 10_000
"""Numbers, reads and functions of an expression with others put in: each may hold the one before several times."""


def inlined(equations: Equations, keep: Mapping[str, Expression]) -> dict[str, Expression] | None:
    """Each equation in terms of current, states of the step before, and what `keep` puts in for a name.

    None where one of them would be larger than `MAX_INLINED`.
    """
    found: dict[str, Expression] = {}
    for name, expression in equations.body:
        known = {**found, **keep}
        if size(expression) + sum(size(known[r.key]) for r in reads(expression) if r.key in known) > MAX_INLINED:
            return None
        found[name] = with_values(expression, known)
    return found
