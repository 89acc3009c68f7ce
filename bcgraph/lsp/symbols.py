"""What names mean: each occurrence with the place where its meaning is defined, across imports and in the library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.library import Definition, Library
from bcgraph.dsl.walk import statements_of
from bcgraph.errors import Span
from bcgraph.lsp.occurrences import Occurrence, head, occurrences
from bcgraph.lsp.reading import Reading


@dataclass(frozen=True, slots=True)
class Use:
    """A stretch of a text that means something defined at `symbol`. `written` unless it is a number or computed."""

    span: Span
    symbol: Span
    defines: bool = False
    written: bool = True


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a port's name: the text of it, and the target of the layer or block that it names."""

    text: str
    target: syntax.Target
    call: syntax.Call


def uses(reading: Reading) -> Iterator[Use]:
    """Everything in a text that means something with a place of its own."""
    if reading.tree is not None:
        for each in occurrences(reading.tree):
            yield from uses_of(each, reading)


def uses_of(each: Occurrence, reading: Reading) -> Iterator[Use]:
    """What an occurrence means: one use, several for the parts of a port's name, none where nothing is known."""
    if each.at is not None:
        yield Use(each.span, each.at, each.defines)
    elif each.kind in ("call", "word"):
        found = definition_of(each.name, reading)
        if found is not None:
            yield Use(each.span, found.text.name_span)
    elif each.kind == "argument" and each.of is not None:
        callee = definition_of(each.of.name, reading)
        for parameter in callee.text.parameters if callee is not None else ():
            if parameter.name == each.name:
                yield Use(each.span, head(parameter.span, len(parameter.name)))
    elif each.kind == "import":
        path = imported(each.name, reading)
        if path is not None:
            yield Use(each.span, Span(str(path), 1, 1, 1, 1), written=False)
    elif each.port is not None:
        yield from _port(each.port, reading)


def definition_of(name: str, reading: Reading) -> Definition | None:
    """The block, neuron or surrogate that a name means in a text."""
    library, namespace = reading.library, reading.namespace
    own = namespace.definitions.get(name)
    if own is not None:
        return own
    kinds = ("block", "neuron", "surrogate")
    return next((d for kind in kinds if (d := library.definition(kind, name, namespace)) is not None), None)


def imported(written: str, reading: Reading) -> Path | None:
    """The file that an import means."""
    return reading.library.find_file(written, Path(reading.file).parent)


def _port(port: syntax.Port, reading: Reading) -> Iterator[Use]:
    name = port.name
    if port.number is not None:
        spec = reading.understood.spec
        name = spec.ports[port.number] if spec is not None and port.number < len(spec.ports) else None
    found = segments(name, reading) if name is not None else []
    if port.number is not None:
        if found:
            yield Use(port.span, found[-1].target.span, written=False)
        return
    column = port.span.column
    for each in found:
        place = replace(port.span, column=column, end_column=column + len(each.text))
        yield Use(place, each.target.span, written=isinstance(each.target, syntax.Name))
        column += len(each.text) + 1


def segments(port: str, reading: Reading) -> list[Segment]:
    """The layers and blocks that the parts of a port's name mean, from the backbone on; empty where one is unknown."""
    call = backbone(reading)
    definition = None if call is None else reading.library.find(call.name, reading.namespace)
    found: list[Segment] = []
    for text in port.split("."):
        if definition is None:
            return []
        assign = _layers(definition.block, reading).get(text)
        if assign is None and text.isdigit():
            # What a repetition numbers.
            assign = next((a for a in _assigned(definition.block) if isinstance(a.target, syntax.Computed)), None)
        if assign is None or not isinstance(assign.value, syntax.Call):
            return []
        found.append(Segment(text, assign.target, assign.value))
        definition = _callee(assign.value, definition, reading.library)
    return found


def backbone(reading: Reading) -> syntax.Call | None:
    """The call of the network's backbone."""
    for statement in reading.tree.statements if reading.tree is not None else ():
        for setting in statement.body if isinstance(statement, syntax.Network) else ():
            match setting:
                case syntax.Assign(target=syntax.Name(name="backbone"), value=syntax.Call() as call):
                    return call
                case syntax.Assign(target=syntax.Name(name="backbone"), value=syntax.Name() as name):
                    return syntax.Call(name.name, (), name_span=name.span, span=name.span)
                case _:
                    pass
    return None


def _callee(call: syntax.Call, caller: Definition, library: Library) -> Definition | None:
    if library.built_in(call.name, caller.namespace) is not None:
        return None
    return library.find(call.name, caller.namespace)


def _assigned(block: syntax.Block) -> Iterator[syntax.Assign]:
    yield from (s for s in statements_of(block.body) if isinstance(s, syntax.Assign))


def _layers(block: syntax.Block, reading: Reading) -> Mapping[str, syntax.Assign]:
    """The layers of a block by their names, the first of each; made once, since ports may be thousands."""
    known = reading.layers.get(id(block))
    if known is None:
        known = {}
        for assign in _assigned(block):
            match assign.target:
                case syntax.Name(name=name):
                    known.setdefault(name, assign)
                case syntax.Index(number=number):
                    known.setdefault(str(number), assign)
                case _:
                    pass
        reading.layers[id(block)] = known
    return known
