"""From the syntax tree to the specification, reporting everything that is wrong on the way."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bcgraph import plugins, schema, shapes, spaces
from bcgraph.dsl import syntax
from bcgraph.dsl.check import check_blocks
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.connections import KINDS, Ports, Projections, connections
from bcgraph.dsl.elaboration.definitions.calls import Definitions
from bcgraph.dsl.elaboration.evaluate import Failed, Scope, evaluate
from bcgraph.dsl.elaboration.expand import Expander
from bcgraph.dsl.elaboration.layers import NORMS, Defaults, norm
from bcgraph.dsl.elaboration.library import Definition, Library, Namespace, check_header
from bcgraph.dsl.elaboration.search.section import search_section
from bcgraph.dsl.elaboration.search.space import SpaceReader
from bcgraph.dsl.elaboration.settings import Settings, place
from bcgraph.dsl.elaboration.sizes import MAX_ACTIVATIONS, Budget, Size
from bcgraph.dsl.elaboration.vocabulary.places import NETWORK, REQUIRED, SECTIONS, TOP
from bcgraph.dsl.source import Reporter
from bcgraph.dsl.unparse import print_blocks
from bcgraph.dsl.wording import show, type_name
from bcgraph.errors import Span, closest, nearest
from bcgraph.names import DEFAULT_NEURON
from bcgraph.plugins.values import Contradiction

# Findings that a statement lost to a syntax error may cause on its own.
_CONSEQUENCES = frozenset(
    ("E020", "E021", "E030", "E031", "E034", "E042", "E050", "E051", "E052", "E053", "E060", "E061")
)


def elaborate(
    file: syntax.File,
    name: str,
    reporter: Reporter,
    path: Path | None,
    base: Path | None,
    library: Library | None = None,
) -> schema.NetworkSpec | None:
    """The specification that a text describes, or None where the reporter holds reasons against it.

    `path` is the text's own file, `base` the folder its imports are relative to; either may be None. `library` is for
    callers that ask it more afterwards. Where the reporter already holds syntax errors, only findings are added that
    no lost statement can explain.
    """
    broken = bool(reporter)
    library = Library(reporter) if library is None else library
    check_header(file, name, reporter)
    namespace = library.of_text(file, path, base)
    settings = Settings(reporter, Scope(reporter, Budget(reporter), uses=library.uses.names))
    spec = _Elaboration(reporter, library, Definitions(library), settings).run(file, name, namespace)
    if broken:
        reporter.drop(_CONSEQUENCES)
    return None if reporter else spec


@dataclass(frozen=True, slots=True)
class _Elaboration:
    reporter: Reporter
    library: Library
    definitions: Definitions
    settings: Settings

    def run(self, file: syntax.File, name: str, namespace: Namespace) -> schema.NetworkSpec | None:
        values: dict[str, Any] = {}
        networks: list[syntax.Network] = []
        seen: dict[str, Span] = {}
        sections: list[syntax.Section] = []
        for statement in file.statements:
            match statement:
                case syntax.Header() | syntax.Import() | syntax.Use() | syntax.Block() | syntax.Definition():
                    pass
                case syntax.Network():
                    networks.append(statement)
                case syntax.Section() if statement.name in SECTIONS:
                    if self.settings.first(statement.name, statement.name_span, seen):
                        sections.append(statement)
                case syntax.Assign(target=syntax.Name(name="data") as target):
                    if self.settings.first("data", target.span, seen):
                        values["data"] = self.settings.data(statement.value)
                case _:
                    self.settings.stray(statement, "at the top of a file", TOP, tuple(SECTIONS))
        for network in networks[1:]:
            message = "a file has one network, and this is another"
            self.reporter.add("E021", message, network.name_span, f"the first is at {networks[0].name_span}")
        if not networks:
            self.reporter.add("E021", "the text has no network", Span(name, 1, 1, 1, 1), "write `network name { ... }`")
        nowhere = SpaceReader(self.settings, Ports((), complete=False), _unread)
        spec, space = self._network(networks[0], namespace) if networks else ({}, nowhere)
        for section in sections:
            values[section.name] = self._section(section, space)
        check_blocks(namespace, self.definitions, self.settings.scope)
        if self.reporter:
            return None
        found = schema.NetworkSpec(name=networks[0].name, uses=self.library.uses.names, **spec, **values)
        place_of_space = _space_of(sections)
        for error in spaces.check(found):
            self.reporter.add_error(error, place_of_space)
        if self.reporter:
            return found
        for each in _contradictions(found) if "search" in values else ():
            where = [("search", "evolve", name) for name in (each.setting, "strategy")]
            span = next(span for path in where if (span := place(file.statements, path)) is not None)
            self.reporter.add("E089", each.message, span, each.hint)
        return found

    def _section(self, section: syntax.Section, space: SpaceReader) -> BaseModel:
        """The settings of a section of the file."""
        if section.name == "search":
            return search_section(section, self.settings, space)
        model: type[BaseModel] = SECTIONS[section.name]
        return self.settings.section(model, section.body, section.name)

    def _network(self, network: syntax.Network, namespace: Namespace) -> tuple[dict[str, Any], SpaceReader]:
        """The fields of a specification that stand in the network itself, and what reads a space of its connections."""
        written: dict[str, syntax.Expression] = {}
        connected: list[syntax.Connection] = []
        seen: dict[str, Span] = {}
        for statement in network.body:
            match statement:
                case syntax.Connection() if statement.word in KINDS:
                    connected.append(statement)
                case syntax.Assign(target=syntax.Name(name=name) as target) if name in NETWORK:
                    if self.settings.first(name, target.span, seen):
                        written[name] = statement.value
                case _:
                    self.settings.stray(statement, "in a network", (*NETWORK, *KINDS))
        misspelt = {meant for statement in network.body for meant in _meant(statement)}
        for name, example in REQUIRED.items():
            if name not in written and name not in misspelt:
                message = f"the network `{network.name}` has no `{name}`"
                self.reporter.add("E034", message, network.name_span, f"write `{example}`, for example")
        fields = kinds.fields(schema.NetworkSpec)
        values: dict[str, Any] = {}
        own = _named_norm(written.get("norm"))
        for name, value in written.items():
            if name not in ("backbone", "neuron", "feedback") and not (name == "norm" and own is not None):
                self.settings.read(values, name, value, kinds.kind_of(fields[name]))
        size = Size(self.reporter)
        definitions = self.definitions
        neuron, definition = network_neuron(written.get("neuron"), namespace, definitions, self.settings.scope)
        if neuron is not None:
            values["neuron"] = neuron
        if own is not None:
            with contextlib.suppress(Failed):
                values["norm"] = norm(own, Defaults(neuron, schema.Norm()), self.settings.scope)
        expander = Expander(
            self.reporter,
            self.library,
            definitions,
            Defaults(neuron, values.get("norm", schema.Norm())),
            definition,
            size,
            self.settings.scope.budget,
        )
        if "backbone" in written:
            shape = self._input_shape(values.get("input"), written)
            values["backbone"] = self._backbone(written["backbone"], namespace, shape, expander)
        complete = expander.complete and bool(expander.ports)
        ports = Ports(tuple(expander.ports), complete)
        projections = Projections(
            self.library, namespace, definitions, expander.defaults, definition, self.settings, ports.shapes
        )
        if values.get("backbone") is not None:
            layers = schema.walk(values["backbone"].body)
            neurons = tuple(layer.neuron for layer in layers if isinstance(layer, schema.NeuronLayer))
            projections = replace(projections, neurons=neurons)
        if "feedback" in written:
            with contextlib.suppress(Failed):
                values["feedback"] = projections.read(written["feedback"], "feedback")
        given = values.get("feedback", None if "feedback" in written else schema.Projection())
        values |= connections(connected, ports, size, replace(projections, feedback=given), self.settings)
        if "steps" in values:
            size.check_steps(values["steps"], written["steps"].span)
        return values, SpaceReader(self.settings, ports, partial(projections.read, name="through"))

    def _input_shape(self, given: Any, written: dict[str, syntax.Expression]) -> shapes.Shape | None:
        if given is None:
            return None
        shape: shapes.Shape = given.shape
        if math.prod(shape) > MAX_ACTIVATIONS:
            message = f"an input of more than {MAX_ACTIVATIONS:,} values is too large"
            self.reporter.stop("E054", message, written["input"].span)
        return shape

    def _backbone(
        self, value: syntax.Expression, namespace: Namespace, shape: shapes.Shape | None, expander: Expander
    ) -> schema.Backbone | None:
        scope = self.settings.scope
        if isinstance(value, syntax.Name):
            value = syntax.Call(value.name, (), name_span=value.span, span=value.span)
        if not isinstance(value, syntax.Call):
            scope.fail("E040", "`backbone` needs a block", value.span, "write `backbone = resnet18()`, for example")
            return None
        definition = self.library.find(value.name, namespace)
        if definition is None:
            known = self.library.known(namespace)
            hint = nearest(value.name, known) or f"known: {', '.join(f'`{n}`' for n in known[:12])}"
            scope.fail("E031", f"there is no backbone `{value.name}`", value.name_span, hint)
            return None
        try:
            body, after, arguments = expander.call(value, scope, definition, shape)
        except Failed:
            return None
        if expander.complete and after is not None and len(after) != 1:
            message = f"the network ends in {shapes.text(after)} instead of one value per class"
            self.reporter.add("E052", message, value.span, "end it with `flatten()` and a `linear` layer")
        if expander.complete and not expander.ports:
            self.reporter.add("E053", "the network has no layer of neurons", value.span, "add `name = neuron()`")
        if self.reporter:
            return None
        source = print_blocks(value.name, namespace)
        return schema.Backbone.build(schema.Call(value.name, arguments), source, tuple(body))


def _meant(statement: syntax.Statement) -> Iterable[str]:
    """The setting of a network that one with an unknown name seems to mean: that it is missing says nothing new."""
    match statement:
        case syntax.Assign(target=syntax.Name(name=name)) if name not in NETWORK:
            return closest(name, NETWORK)
        case _:
            return ()


def _unread(value: syntax.Expression) -> schema.Through:
    """What reads a projection where there is no network."""
    raise Failed


def _space_of(sections: Iterable[syntax.Section]) -> Span | None:
    """Where the space of a search stands."""
    inner = [s for section in sections if section.name == "search" for s in section.body]
    return next((s.name_span for s in inner if isinstance(s, syntax.Section) and s.name == "space"), None)


def _contradictions(spec: schema.NetworkSpec) -> Iterable[Contradiction]:
    """Settings of the search that its strategy cannot meet."""
    found = plugins.known("strategy", spec.search.evolve.strategy)
    return () if found is None else found.value.contradictions(spec)


def _named_norm(value: syntax.Expression | None) -> syntax.Call | None:
    """The call of a norm that is not the plain one."""
    if isinstance(value, syntax.Name):
        value = syntax.Call(value.name, (), name_span=value.span, span=value.span)
    return value if isinstance(value, syntax.Call) and value.name in NORMS else None


def network_neuron(
    value: syntax.Expression | None, namespace: Namespace, definitions: Definitions, scope: Scope
) -> tuple[schema.Neuron | None, Definition | None]:
    """The neuron of a setting `neuron = ...`, with its definition; None where it is wrong, which is reported then."""
    library = definitions.library
    if value is None:
        value = syntax.Name(DEFAULT_NEURON)
    if isinstance(value, syntax.Name):
        value = syntax.Call(value.name, (), name_span=value.span, span=value.span)
    if not isinstance(value, syntax.Call):
        hint = "write `neuron = lif(tau=0.5)`, for example"
        with contextlib.suppress(Failed):
            found = evaluate(value, scope)
            scope.fail("E040", f"`neuron` needs a call of a neuron, not {type_name(found)}", value.span, hint)
        return None, None
    definition = library.definition("neuron", value.name, namespace)
    if definition is None:
        known = library.names("neuron", namespace)
        hint = nearest(value.name, known) or f"known: {', '.join(f'`{n}`' for n in known)}"
        scope.fail("E043", f"`neuron` cannot be `{show(value.name)}`", value.name_span, hint)
        return None, None
    try:
        return definitions.neuron(value, definition, scope, namespace), definition
    except Failed:
        return None, definition


def called_neuron(file: syntax.File, reporter: Reporter) -> schema.Neuron | None:
    """The neuron of a text that is one setting, `neuron = lif()`, of the standard library alone."""
    library = Library(reporter)
    scope = Scope(reporter, Budget(reporter))
    (statement,) = file.statements or (syntax.Formula(syntax.Broken()),)
    value = statement.value if isinstance(statement, syntax.Assign) else syntax.Broken()
    return network_neuron(value, Namespace(standard=False), Definitions(library), scope)[0]
