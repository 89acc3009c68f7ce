"""Connections: from ports as they are written to ports by number, and from blocks to projections."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from bcgraph import connections as rules
from bcgraph import schema, shapes
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.definitions.calls import Definitions
from bcgraph.dsl.elaboration.evaluate import Failed
from bcgraph.dsl.elaboration.expand import Expander
from bcgraph.dsl.elaboration.layers import Defaults
from bcgraph.dsl.elaboration.library import Definition, Library, Namespace
from bcgraph.dsl.elaboration.settings import Settings
from bcgraph.dsl.elaboration.sizes import Size
from bcgraph.dsl.elaboration.values import build, convert, convert_all, parameters_of
from bcgraph.dsl.source import Reporter
from bcgraph.dsl.unparse import print_definitions
from bcgraph.dsl.wording import short
from bcgraph.errors import Span, nearest
from bcgraph.projections import as_map, fits, misfit
from bcgraph.schema.values import Scalar
from bcgraph.shapes import Shape

KINDS: Mapping[str, type[schema.Connection]] = {
    kind.word: kind for kind in (schema.BackwardConnection, schema.ForwardConnection)
}
"""The connections of a network, by the word that begins their statement."""

STANDARD = "project"
"""The projection of the language, the paper's."""

CHANNELS = "channels"
"""The parameter of a projection that is the number of the target's channels."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a network with the shapes of their currents; `complete` unless an error may hide some."""

    ports: tuple[tuple[str, Shape | None], ...]
    complete: bool

    @property
    def shapes(self) -> tuple[Shape, ...] | None:
        """The shapes of all ports; None where some are not known."""
        known = tuple(shape for _, shape in self.ports if shape is not None)
        return known if self.complete and len(known) == len(self.ports) else None


@dataclass(frozen=True, slots=True)
class Projections:
    """Reads what connections run through. `shapes` are those of the network's ports, None where an error hides some.

    `neurons` are those of the ports, and `feedback` is what the network gives to all, None where it is wrong.
    """

    library: Library
    namespace: Namespace
    definitions: Definitions
    defaults: Defaults
    network_neuron: Definition | None
    settings: Settings
    shapes: tuple[Shape, ...] | None
    neurons: tuple[schema.Neuron, ...] = ()
    feedback: schema.Through | None = None

    def read(self, value: syntax.Expression, name: str) -> schema.Through:
        """The projection that a setting `name` means. Raises Failed once what is wrong with it is reported."""
        scope = self.settings.scope
        if isinstance(value, syntax.Name):
            value = syntax.Call(value.name, (), name_span=value.span, span=value.span)
        if not isinstance(value, syntax.Call):
            hint = f"write `{name} = {STANDARD}()`, for example"
            raise scope.fail("E040", f"`{name}` needs a projection, which is a call of a block", value.span, hint)
        definition = self.library.find(value.name, self.namespace)
        if definition is None and value.name == STANDARD:
            arguments, spans = convert_all(value, parameters_of(schema.Projection), scope)
            made: schema.Projection = build(schema.Projection, arguments, spans, value.span, scope)
            return made
        if definition is None:
            hint = nearest(value.name, [STANDARD, *self.namespace.definitions]) or f"the standard one is `{STANDARD}()`"
            raise scope.fail("E031", f"there is no block `{value.name}`", value.name_span, hint)
        return self._own(value, definition)

    def _own(self, call: syntax.Call, definition: Definition) -> schema.OwnProjection:
        """The projection of a user's block, for all pairs of ports that it fits."""
        if self.shapes is None:
            raise Failed
        maps = sorted({as_map(shape) for shape in self.shapes})
        bodies: list[tuple[schema.Maps, schema.Maps, schema.Body]] = []
        arguments: tuple[tuple[str, Scalar], ...] = ()
        reasons: Reporter | None = None
        for source, target in itertools.product(maps, maps):
            aside = Reporter()
            found = self._expanded(call, definition, source, target, aside)
            if found is not None and not aside:
                body, arguments = found
                bodies.append((source, target, body))
            else:
                reasons = reasons or aside
        if not bodies:
            for each in () if reasons is None else reasons.diagnostics():
                self.settings.reporter.add(each.code, each.message, each.span, each.hint, each.notes)
            raise Failed
        kept = tuple((name, value) for name, value in arguments if name != CHANNELS)
        return schema.OwnProjection.build(
            schema.Call(call.name, kept), print_definitions(call.name, self.namespace), bodies
        )

    def _expanded(
        self, call: syntax.Call, definition: Definition, source: schema.Maps, target: schema.Maps, aside: Reporter
    ) -> tuple[schema.Body, tuple[tuple[str, Scalar], ...]] | None:
        """The block between ports of these maps, and its arguments; None where `aside` holds the reasons."""
        scope = replace(self.settings.scope, reporter=aside)
        takes = [parameter.name for parameter in definition.block.parameters]
        if any(argument.name == CHANNELS for argument in call.arguments):
            scope.fail("E042", f"`{CHANNELS}` is that of the target, and is not given", call.span)
            return None
        if CHANNELS in takes:
            given = syntax.Argument(CHANNELS, syntax.Number(target[0], span=call.span), span=call.span)
            named = _by_name(call, [name for name in takes if name != CHANNELS])
            call = replace(call, arguments=(*named, given))
        expander = Expander(
            aside,
            self.library,
            self.definitions,
            replace(self.defaults, target=(target[1], target[2])),
            self.network_neuron,
            Size(aside),
            scope.budget,
        )
        try:
            nodes, _, arguments = expander.call(call, scope, definition, source)
        except Failed:
            return None
        body = tuple(nodes)
        if expander.ports:
            hint = "layers of neurons are the ports of the backbone"
            scope.fail("E035", f"the projection `{call.name}` holds neurons", call.name_span, hint)
        elif not aside and (error := fits(body, source, target, call.span)) is not None:
            aside.add_error(error, call.span)
        return body, arguments

    def measure(self, connection: schema.Connection, ports: Ports, size: Size, places: Mapping[str, Span]) -> None:
        """Check that a connection fits its ports, and add it to the size of the network. `places` are its settings."""
        through = connection.through or self.feedback
        source, target = (ports.ports[number][1] for number in (connection.source, connection.target))
        span = connection.span or syntax.NOWHERE
        if self.neurons:
            unknown = rules.unreadable(connection.read, self.neurons[connection.source], places.get("read", span))
            if unknown is not None:
                self.settings.reporter.add_error(unknown)
        if through is None or source is None or target is None:
            return
        start, end = as_map(source), as_map(target)
        body = through.layers(start, end, self.defaults.norm)
        error = misfit(through, start, end, span) if body is None else fits(body, start, end, span)
        if error is not None or body is None:
            assert error is not None
            self.settings.reporter.add_error(error, span)
            return
        if connection.gain is not None and schema.last_norm(body) is None:
            message = f"`gain` is the first scale of a norm, and `{through}` has none"
            self.settings.reporter.add("E064", message, places["gain"], "leave `gain` out, or end the block in a norm")
        for layer, shape in shapes.walk(body, start):
            values = 0 if isinstance(layer, schema.Resize) else math.prod(shapes.infer(layer, shape))
            size.add(1, shapes.parameters(layer, shape), values, span)


def _by_name(call: syntax.Call, names: list[str]) -> tuple[syntax.Argument, ...]:
    """The arguments of a call by name; those by position go to `names` in order, too many stay as they are."""
    return tuple(
        replace(argument, name=names[place]) if argument.name is None and place < len(names) else argument
        for place, argument in enumerate(call.arguments)
    )


def connections(
    statements: Iterable[syntax.Connection], ports: Ports, size: Size, projections: Projections, settings: Settings
) -> dict[str, tuple[schema.Connection, ...]]:
    """The connections that the statements mean, by their word.

    Reports unknown ports (E060), connections that run the other way (E061), repeated ones (E062), wrong delays (E063),
    projections that do not fit (E064), and what they add to the size of the network (E054).
    """
    numbers = {name: number for number, (name, _) in enumerate(ports.ports)}
    found: dict[str, list[schema.Connection]] = {word: [] for word in KINDS}
    seen: dict[schema.Place, Span] = {}
    for statement in statements:
        kind = KINDS[statement.word]
        given, places = _settings(statement, kind, projections, settings)
        if without_sign(statement, numbers, settings):
            continue
        source = number_of(statement.source, numbers, ports, settings)
        target = number_of(statement.target, numbers, ports, settings)
        if source is None or target is None or given is None:
            continue
        by_number = statement.source.number is not None and statement.target.number is not None
        written = _written(statement.source), _written(statement.target)
        if (error := rules.wrong_way(statement.word, source, target, statement.span, written)) is not None:
            if ports.complete or by_number:
                settings.reporter.add_error(error)
            continue
        connection = kind(source, target, **given, span=statement.span)
        if (first := seen.get(connection.place)) is not None:
            settings.reporter.add_error(rules.repeated(*connection.place, statement.span, first))
            continue
        seen[connection.place] = statement.span
        if ports.complete:
            projections.measure(connection, ports, size, places)
        found[statement.word].append(connection)
    return {word: tuple(some) for word, some in found.items()}


def without_sign(statement: syntax.Connection, numbers: Mapping[str, int], settings: Settings) -> bool:
    """Report ports by number that lack their `@` (E060), once for both; whether there are any."""
    ends = (statement.source, statement.target)
    bare = [end.name is not None and end.name.isdigit() and end.name not in numbers for end in ends]
    if any(bare):
        meant = [f"@{end.name}" if is_bare else _written(end) for end, is_bare in zip(ends, bare, strict=True)]
        span = replace(ends[0].span, end_line=ends[1].span.end_line, end_column=ends[1].span.end_column)
        hint = f"write `{statement.word} {meant[0]} -> {meant[1]}`"
        settings.reporter.add("E060", "a port by its number is written with `@`", span, hint)
    return any(bare)


def number_of(port: syntax.Port, numbers: dict[str, int], ports: Ports, settings: Settings) -> int | None:
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


def _written(port: syntax.Port) -> str:
    return f"@{port.number}" if port.number is not None else str(port.name)


# --- The settings of a connection -------------------------------------------------------------------------


def _settings(
    statement: syntax.Connection, kind: type[schema.Connection], projections: Projections, settings: Settings
) -> tuple[dict[str, Any] | None, dict[str, Span]]:
    """The settings in the braces of a connection, and where they stand; what is out of range is reported and left out.

    None in place of the settings where its projection is wrong.
    """
    found: dict[str, Any] = {}
    seen: dict[str, Span] = {}
    places: dict[str, Span] = {}
    for setting in statement.body:
        match setting:
            case syntax.Assign(target=syntax.Name(name=name) as target, value=value) if name in _READ:
                if not settings.first(name, target.span, seen):
                    continue
                places[name] = value.span
                try:
                    found[name] = _READ[name](value, kind, projections, settings)
                except Failed:
                    if name == "through":
                        return None, places
            case _:
                settings.stray(setting, f"of a {statement.word} connection", tuple(_READ))
    return found, places


def _delay(
    value: syntax.Expression, kind: type[schema.Connection], projections: Projections, settings: Settings
) -> int:
    allowed = kinds.kind_of(kinds.fields(kind)["delay"])
    assert isinstance(allowed, kinds.Integer)
    number: int = convert(value, kinds.Integer(), settings.scope, "`delay`")
    if allowed.low is not None and allowed.high is not None and not allowed.low <= number <= allowed.high:
        hint = f"allowed: {kinds.allowed_range(allowed)}"
        raise settings.scope.fail("E063", f"a delay of {number} steps is not possible", value.span, hint)
    return number


def _through(
    value: syntax.Expression, kind: type[schema.Connection], projections: Projections, settings: Settings
) -> schema.Through:
    return projections.read(value, "through")


def _read(value: syntax.Expression, kind: type[schema.Connection], projections: Projections, settings: Settings) -> str:
    if not isinstance(value, syntax.Name):
        hint = "write `read = u`, for example"
        raise settings.scope.fail("E040", "`read` needs the name of a value of the source's neuron", value.span, hint)
    return value.name


_Reader: TypeAlias = Callable[[syntax.Expression, type[schema.Connection], Projections, Settings], Any]


def _plain(name: str) -> _Reader:
    def read(
        value: syntax.Expression, kind: type[schema.Connection], projections: Projections, settings: Settings
    ) -> Any:
        return convert(value, kinds.kind_of(kinds.fields(kind)[name]), settings.scope, f"`{name}`")

    return read


_READ: Mapping[str, _Reader] = {
    "delay": _delay,
    "gain": _plain("gain"),
    "through": _through,
    "join": _plain("join"),
    "read": _read,
}
