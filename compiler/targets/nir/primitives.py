"""Which primitive of NIR a neuron is, found by comparing equations, never by a name.

NIR's neurons are differential equations; a reader takes a step of forward Euler of length `DT`. So a membrane with
`u = a*v + b*I + c` is NIR's `tau dv/dt = (v_leak - v) + r*I` for a = 1 - DT/tau, b = r*DT/tau and c = v_leak*DT/tau.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bcgraph.equations.expression import Apply, Expression, Number, Read
from bcgraph.equations.linear import CONSTANT, inlined, linear
from bcgraph.equations.neuron import CURRENT, SPIKES, Equations
from bcgraph.equations.simplify import with_values

DT = 1e-4
"""Seconds that a step lasts: what readers take where they are told nothing."""


@dataclass(frozen=True, slots=True)
class Membrane:
    """`u = keep*v + gain*x + rest`, of a current x."""

    keep: float
    gain: float
    rest: float


@dataclass(frozen=True, slots=True)
class Primitive:
    """A neuron as NIR has them: a synaptic current or none, a membrane, and threshold and reset or none."""

    membrane: Membrane
    synapse: Membrane | None = None
    threshold: float | None = None
    reset: float = 0.0


def primitive(equations: Equations) -> Primitive | str:
    """What NIR has for `equations`, or why it has nothing."""
    body = dict(equations.body)
    fired = _spike(body[SPIKES])
    quiet = inlined(equations, {SPIKES: Number(0.0)})
    loud = inlined(equations, {SPIKES: Number(1.0)})
    if quiet is None or loud is None:
        return "has equations that are not those of a NIR neuron"
    states = [name for name in equations.gives if name != SPIKES]
    if not states and fired is not None:
        return _memoryless(fired, quiet)
    forms = {name: linear(quiet[name]) for name in states}
    if not states or any(form is None for form in forms.values()):
        return "has equations that are not those of a NIR neuron"
    found: Primitive | None = None
    for name in states:
        others = [other for other in states if other != name]
        if len(others) > 1 or (others and Read(name, 1).key in (forms[others[0]] or {})):
            continue
        found = _with_synapse(name, others, forms)
        if found is not None:
            break
    if found is None:
        return "has equations that are not those of a NIR neuron"
    if fired is None:
        sends = linear(quiet[SPIKES])
        return found if sends == forms[name] and quiet == loud else "sends something else than spikes or its membrane"
    return _firing(found, fired, name, forms, quiet, loud)


def _spike(expression: Expression) -> Expression | None:
    """The operand of a spike."""
    if isinstance(expression, Apply) and expression.function == "spike":
        return expression.operands[0]
    return None


def _memoryless(fired: Expression, quiet: Mapping[str, Expression]) -> Primitive | str:
    """A neuron that forgets: its membrane is its current, and what the reset leaves does not matter."""
    known = {key: value for key, value in quiet.items() if key != SPIKES}
    distance = linear(with_values(fired, known))
    if distance is None or set(distance) - {CURRENT, CONSTANT} or not distance.get(CURRENT):
        return "fires by a rule that NIR does not have"
    return Primitive(Membrane(0.0, distance[CURRENT], 0.0), None, -distance.get(CONSTANT, 0.0), 0.0)


def _with_synapse(name: str, others: list[str], forms: Mapping[str, Any]) -> Primitive | None:
    form = dict(forms[name])
    before = Read(name, 1).key
    keep, rest = form.pop(before, 0.0), form.pop(CONSTANT, 0.0)
    if not others:
        gain = form.pop(CURRENT, 0.0)
        return None if form or not gain else Primitive(Membrane(keep, gain, rest))
    synapse = dict(forms[others[0]])
    key = Read(others[0], 1).key
    decay, weight = synapse.pop(key, 0.0), synapse.pop(CURRENT, 0.0)
    if synapse.pop(CONSTANT, 0.0) or synapse or not weight or not decay:
        return None
    # The membrane reads the synaptic current of this step: gain*(decay*i + weight*I).
    gain = form.pop(CURRENT, 0.0) / weight
    if not gain or abs(form.pop(key, 0.0) - gain * decay) > 1e-12 or form:
        return None
    return Primitive(Membrane(keep, gain, rest), Membrane(decay, weight, 0.0))


def _firing(
    found: Primitive,
    fired: Expression,
    name: str,
    forms: Mapping[str, Any],
    quiet: Mapping[str, Expression],
    loud: Mapping[str, Expression],
) -> Primitive | str:
    """The primitive with its threshold and reset."""
    known = {key: value for key, value in quiet.items() if key != SPIKES}
    distance = linear(with_values(fired, known))
    if distance is None:
        return "fires by a rule that NIR does not have"
    gap = {k: distance.get(k, 0.0) - forms[name].get(k, 0.0) for k in (*distance, *forms[name])}
    threshold = -gap.pop(CONSTANT, 0.0)
    if any(abs(value) > 1e-12 for value in gap.values()):
        return "fires by a rule that NIR does not have"
    after = loud[name]
    if any(loud[other] != quiet[other] for other in forms if other != name):
        return "resets more than its membrane"
    if not isinstance(after, Number):
        return "has a soft reset, but NIR resets to a value"
    return Primitive(found.membrane, found.synapse, threshold, after.value)


def leaks_nothing(found: Primitive) -> str | None:
    """Why NIR has no node for this primitive, if it has none: only `IF` does without a leak."""
    membranes = [m for m in (found.membrane, found.synapse) if m is not None]
    alone = found.synapse is None and found.threshold is not None and not found.membrane.rest
    if any(m.keep == 1.0 for m in membranes) and not (alone and found.membrane.keep == 1.0):
        return "does not leak, and only the neuron IF of NIR does without a leak"
    return None


def primitives(equations: Equations, arrays: Mapping[str, np.ndarray]) -> list[Primitive] | str:
    """What NIR has for the neurons of a layer, once or for each channel of `arrays`; or why it has nothing."""
    size = max((len(value) for value in arrays.values()), default=1)
    found: list[Primitive] = []
    for channel in range(size):
        known = {key: Number(float(value[channel])) for key, value in arrays.items()}
        body = tuple((name, with_values(expression, known)) for name, expression in equations.body)
        one = primitive(replace(equations, body=body))
        reason = one if isinstance(one, str) else leaks_nothing(one)
        if reason is not None:
            return reason
        assert not isinstance(one, str)
        found.append(one)
    return found
