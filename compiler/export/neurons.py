"""Neurons when a file is written: what learned parameters decide becomes numbers, as a file is for inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bcgraph.compiler.ir import Node
from bcgraph.compiler.ops.neuron import equations_of, layer_of, variant
from bcgraph.equations.expression import FUNCTIONS, Apply, Expression, Number, Read
from bcgraph.equations.neuron import Equations
from bcgraph.equations.simplify import with_values


def fixed(node: Node, weights: Mapping[str, np.ndarray]) -> tuple[Equations, dict[str, np.ndarray]]:
    """The equations of a neuron with scalar parameters as numbers, and the values `[C]` of those by channel."""
    equations = equations_of(node)
    names = [each.name for each in equations.learned]
    return with_parameters(equations, {name: weights[f"{layer_of(node).name}.{name}"] for name in names})


def at_first(equations: Equations) -> tuple[Equations, dict[str, np.ndarray]]:
    """`fixed` for the values that learned parameters begin with; by channel, those of one channel."""
    first = {each.name: np.full((1,) if each.channels else (), each.initial) for each in equations.learned}
    return with_parameters(equations, first)


def with_parameters(equations: Equations, given: Mapping[str, np.ndarray]) -> tuple[Equations, dict[str, np.ndarray]]:
    """Equations with the given values of learned parameters, and the values by channel `[C]`."""
    values = {name: value.astype(np.float64) for name, value in given.items()}
    known = dict(equations.uniform)
    worth = {key: evaluated(known.get(key, Read(key)), values) for key in equations.fixed}
    scalars: dict[str, Expression] = {key: Number(float(v)) for key, v in worth.items() if np.ndim(v) == 0}
    body = tuple((name, with_values(expression, scalars)) for name, expression in equations.body)
    arrays = {key: np.asarray(v) for key, v in worth.items() if np.ndim(v)}
    return Equations(body, equations.states, (), (), equations.gives), arrays


def evaluated(expression: Expression, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """An expression of learned parameters alone, in float64."""
    match expression:
        case Number(value=value):
            return np.asarray(value)
        case Read():
            return np.asarray(values[expression.key])
        case Apply(function=function, operands=operands):
            function_of = np.vectorize(FUNCTIONS[function].value, otypes=[np.float64])
            found: np.ndarray = function_of(*(evaluated(operand, values) for operand in operands))
            return found


def unique(node: Node, equations: Equations, label: str, taken: dict[str, Equations]) -> str:
    """A name for a neuron of these equations, the same for equal ones: `lif`, `lif_start`, `lif_end`, `lif_2`."""
    base = "_".join(part for part in (label, variant(node)) if part)
    number = 1
    while True:
        name = base if number == 1 else f"{base}_{number}"
        if taken.setdefault(name, equations) == equations:
            return name
        number += 1


def by_channel(arrays: Mapping[str, np.ndarray], rank: int) -> Sequence[tuple[str, np.ndarray]]:
    """Values by channel `[C]`, shaped to broadcast over a current of so many axes, the samples' included."""
    return [(key, np.reshape(value, (-1, *[1] * (rank - 2)))) for key, value in arrays.items()]
