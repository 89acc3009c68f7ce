"""Backward connections: from ports as they are written to ports by number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bcgraph import connections as rules
from bcgraph import schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.evaluate import Failed
from bcgraph.dsl.elaboration.settings import Settings
from bcgraph.dsl.elaboration.sizes import Size
from bcgraph.dsl.elaboration.values import convert
from bcgraph.dsl.wording import short
from bcgraph.errors import Span
from bcgraph.shapes import Shape

# A 1x1 convolution, a batch norm, and the addition to the current.
_LAYERS_OF_PROJECTION = 3


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a network with the shapes of their currents; `complete` unless an error may hide some."""

    ports: tuple[tuple[str, Shape | None], ...]
    complete: bool


def connections(
    statements: Iterable[syntax.Backward], ports: Ports, size: Size, settings: Settings
) -> tuple[schema.BackwardConnection, ...]:
    """The backward connections that the statements mean.

    Reports unknown ports (E060), forward connections (E061), repeated ones (E062), wrong delays (E063), and what their
    projections add to the size of the network (E054).
    """
    numbers = {name: number for number, (name, _) in enumerate(ports.ports)}
    found: list[schema.BackwardConnection] = []
    seen: dict[tuple[int, int], Span] = {}
    for statement in statements:
        given = _settings(statement, settings)
        source = _number(statement.source, numbers, ports, settings)
        target = _number(statement.target, numbers, ports, settings)
        if source is None or target is None:
            continue
        by_number = statement.source.number is not None and statement.target.number is not None
        written = _written(statement.source), _written(statement.target)
        if (forward := rules.runs_forward(source, target, statement.span, written)) is not None:
            if ports.complete or by_number:
                settings.reporter.add_error(forward)
            continue
        if (source, target) in seen:
            settings.reporter.add_error(rules.repeated(source, target, statement.span, seen[source, target]))
            continue
        seen[source, target] = statement.span
        if ports.complete:
            _count(ports.ports[source][1], ports.ports[target][1], size, statement.span)
        found.append(schema.BackwardConnection(source, target, **given, span=statement.span))
    return tuple(found)


def _number(port: syntax.Port, numbers: dict[str, int], ports: Ports, settings: Settings) -> int | None:
    """The number of a port, or None where it is not known."""
    if port.number is not None:
        unknown = rules.unknown_number(port.number, len(numbers), port.span)
        if unknown is None or not ports.complete:
            return port.number
    else:
        assert port.name is not None
        unknown = rules.unknown_name(port.name, numbers, short(port.name), port.span)
        if unknown is None or not ports.complete:
            return numbers.get(port.name)
    settings.reporter.add_error(unknown)
    return None


def _settings(statement: syntax.Backward, settings: Settings) -> dict[str, Any]:
    """The settings in the braces of a connection; what is out of range is reported and left out."""
    fields = {name: kinds.kind_of(kinds.fields(schema.BackwardConnection)[name]) for name in ("delay", "gain")}
    found: dict[str, Any] = {}
    seen: dict[str, Span] = {}
    for setting in statement.body:
        match setting:
            case syntax.Assign(target=syntax.Name(name="delay") as target, value=value):
                if not settings.first("delay", target.span, seen):
                    continue
                allowed = fields["delay"]
                assert isinstance(allowed, kinds.Integer)
                try:
                    number = convert(value, kinds.Integer(), settings.scope, "`delay`")
                except Failed:
                    continue
                if allowed.low is not None and allowed.high is not None and allowed.low <= number <= allowed.high:
                    found["delay"] = number
                else:
                    hint = f"allowed: {kinds.allowed_range(allowed)}"
                    settings.reporter.add("E063", f"a delay of {number} steps is not possible", value.span, hint)
            case syntax.Assign(target=syntax.Name(name="gain") as target, value=value):
                if settings.first("gain", target.span, seen):
                    settings.read(found, "gain", value, fields["gain"])
            case _:
                settings.stray(setting, "of a backward connection", tuple(fields))
    return found


def _count(source: Shape | None, target: Shape | None, size: Size, span: Span) -> None:
    if source is not None and target is not None:
        size.add(_LAYERS_OF_PROJECTION, target[0] * (source[0] + 2), 2 * math.prod(target), span)


def _written(port: syntax.Port) -> str:
    return f"@{port.number}" if port.number is not None else str(port.name)
