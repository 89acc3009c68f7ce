"""Hover: what a name means, from its definition, the declarations of settings and layers, and the specification."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lsprotocol import types

from bcgraph import schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.layers import LAYERS
from bcgraph.dsl.elaboration.library import NEURON, Definition
from bcgraph.dsl.elaboration.values import Parameter
from bcgraph.dsl.elaboration.vocabulary.places import Setting, places
from bcgraph.dsl.unparse import expression
from bcgraph.errors import SpecError
from bcgraph.lsp import network
from bcgraph.lsp.calls import parameters_of_call
from bcgraph.lsp.occurrences import Occurrence
from bcgraph.lsp.reading import Reading
from bcgraph.lsp.session import Session
from bcgraph.lsp.symbols import definition_of, imported
from bcgraph.shapes import text as shape_text

MAX_ROWS = 8
"""Copies of a layer that are listed."""


def hover(session: Session, params: types.HoverParams) -> types.Hover | None:
    """What is known of the name at a position."""
    reading, each = session.at(params.text_document.uri, params.position)
    if each is None or each.kind not in ABOUT:
        return None
    parts = [part for part in ABOUT[each.kind](each, reading) if part]
    if not parts:
        return None
    value = types.MarkupContent(types.MarkupKind.Markdown, "\n\n".join(parts))
    return types.Hover(value, session.range(each.span))


def _code(text: str) -> str:
    return f"```bcgraph\n{text}\n```"


# --- Definitions ------------------------------------------------------------------------------------------


def signature(definition: Definition) -> str:
    """The first line of a definition: `block tiny(width=16, classes=10)`."""
    shown = [p.name if p.default is None else f"{p.name}={expression(p.default)}" for p in definition.text.parameters]
    return f"{definition.kind} {definition.text.name}({', '.join(shown)})"


def comment(definition: Definition, reading: Reading) -> str:
    """The comment that stands above a definition."""
    place = definition.text.name_span
    try:
        lines = reading.files.read(Path(place.file)).split("\n") if place.file != reading.file else reading.source.lines
    except SpecError:
        return ""
    above: list[str] = []
    for line in reversed(lines[: place.line - 1]):
        if not line.lstrip().startswith("#"):
            break
        above.append(line.strip().lstrip("#").strip())
    return " ".join(reversed(above))


def equations(definition: Definition) -> str:
    """The equations of a neuron or the derivative of a surrogate, as its text has them."""
    shown: list[str] = []
    for statement in definition.text.body:
        match statement:
            case syntax.Declaration(kind=kind, name=name, value=value):
                shown.append(f"{kind} {name} = {expression(value)}")
            case syntax.Assign(target=syntax.Name(name=name), value=value):
                shown.append(f"{name} = {expression(value)}")
            case syntax.Formula(value=value):
                shown.append(expression(value))
            case _:
                pass
    return "\n".join(shown)


def _defined(definition: Definition, reading: Reading) -> Iterator[str]:
    yield _code(signature(definition))
    yield comment(definition, reading)
    if definition.kind != "block":
        yield _code(equations(definition))


def _call(each: Occurrence, reading: Reading) -> Iterator[str]:
    """A call or a word: a definition, the network's neuron, a layer of the language, or what a setting takes."""
    definition = definition_of(each.name, reading)
    spec = reading.understood.spec
    if each.name == NEURON and NEURON not in reading.namespace.definitions:
        if spec is not None:
            yield f"the network's neuron, `{spec.neuron.name}`"
            yield _code(str(spec.neuron.equations))
        return
    if definition is not None:
        yield from _defined(definition, reading)
        if spec is not None and spec.backbone.call.name == each.name:
            ports = f"{len(spec.ports)} ports, `{spec.ports[0]}` to `{spec.ports[-1]}`" if spec.ports else "no ports"
            yield f"{ports}; with all connections {network.total(spec)}"
        return
    found = parameters_of_call(each.name, reading)
    if found is not None:
        yield _code(f"{each.name}({', '.join(p.name if p.required else f'{p.name}=...' for p in found)})")
        if each.name in LAYERS:
            yield "a layer of the language"


def _definition(each: Occurrence, reading: Reading) -> Iterator[str]:
    definition = definition_of(each.name, reading)
    if definition is not None:
        yield from _defined(definition, reading)


# --- Layers, ports and connections ------------------------------------------------------------------------


def _layer(each: Occurrence, reading: Reading) -> Iterator[str]:
    if each.value is None:
        return
    many = reading.placed.get(each.value.span, ())
    if not many:
        yield from _of_block(each, reading)
        return
    rows = ["| layer | port | shape | parameters | multiply-accumulates |", "|---|---|---|--:|--:|"]
    for one in many[:MAX_ROWS]:
        port = f"@{one.port}" if one.port is not None else ""
        rows.append(f"| `{one.name}` | {port} | {shape_text(one.shape)} | {one.parameters:,} | {one.operations:,} |")
    yield "\n".join(rows)
    if len(many) > MAX_ROWS:
        yield f"and {len(many) - MAX_ROWS} more"
    if (neuron := many[0].neuron) is not None:
        yield _code(f"# {neuron.name}\n{neuron.equations}")


def _of_block(each: Occurrence, reading: Reading) -> Iterator[str]:
    if isinstance(each.value, syntax.Call) and (found := definition_of(each.value.name, reading)) is not None:
        yield from _defined(found, reading)


def _port(each: Occurrence, reading: Reading) -> Iterator[str]:
    spec = reading.understood.spec
    if spec is None or each.port is None:
        return
    number = each.port.number if each.port.number is not None else reading.by_name.get(each.name)
    if number is None or not 0 <= number < len(spec.ports):
        return
    name = spec.ports[number]
    one = next((o for many in reading.placed.values() for o in many if o.port == number), None)
    yield f"port @{number} `{name}`, {shape_text(network.port_shapes(spec)[number])}"
    if one is not None and one.neuron is not None:
        yield _code(f"# {one.neuron.name}\n{one.neuron.equations}")
    for connection in spec.in_order:
        if number in (connection.source, connection.target):
            cost = network.of_connection(connection, spec)
            runs = f"{connection.word} @{connection.source} -> @{connection.target}, delay {connection.delay}"
            yield runs if cost is None else f"{runs}: {cost}"


# --- Settings and arguments -------------------------------------------------------------------------------


def described(setting: Setting) -> str:
    """What a setting takes and its default, in a line."""
    if setting.braced:
        return f"`{setting.name} {{ ... }}`"
    takes = "a call of a definition" if setting.kind is None else kinds.describe(setting.kind)
    default = "required" if setting.required else ""
    if not setting.required and setting.default is not None:
        default = f"default `{_plain(setting.default)}`"
    return f"`{setting.name}`: {takes}" + (f"; {default}" if default else "")


def _plain(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return f"[{', '.join(map(_plain, value))}]"
        case schema.Neuron():
            return f"{value.name}()"
        case str() | int() | float():
            return str(value)
        case _:
            return f"{kinds.call_name(type(value))}()"


def _setting(each: Occurrence, reading: Reading) -> Iterator[str]:
    place = places().get(each.path)
    if place is not None and each.name in place.settings:
        yield described(place.settings[each.name])
        yield place.about
    elif each.name == "data":
        fields = kinds.fields(schema.DataSpec).items()
        yield "`data`: a call of a data set"
        yield "\n".join(
            f"- `{n}`: {kinds.describe(kinds.kind_of(f))}; default `{_plain(f.default)}`" for n, f in fields
        )


def _section(each: Occurrence, reading: Reading) -> Iterator[str]:
    place = places().get((*each.path, each.name))
    if place is not None:
        yield place.about
        yield "\n".join(f"- {described(setting)}" for setting in place.settings.values())


def _argument(each: Occurrence, reading: Reading) -> Iterator[str]:
    if each.of is None:
        return
    for parameter in parameters_of_call(each.of.name, reading) or ():
        if parameter.name == each.name:
            yield _parameter(parameter, each.of.name, reading)


def _parameter(parameter: Parameter, call: str, reading: Reading) -> str:
    definition = definition_of(call, reading)
    for written in definition.text.parameters if definition is not None else ():
        if written.name == parameter.name and written.default is not None:
            return f"`{parameter.name}` of `{call}`; default `{expression(written.default)}`"
    takes = f": {kinds.describe(parameter.kind)}" if parameter.kind is not None else ""
    return f"`{parameter.name}` of `{call}`{takes}" + ("; required" if parameter.required else "")


def _import(each: Occurrence, reading: Reading) -> Iterator[str]:
    path = imported(each.name, reading)
    if path is not None:
        yield f"`{path}`"


def _network(each: Occurrence, reading: Reading) -> Iterator[str]:
    spec = reading.understood.spec
    if spec is not None:
        yield f"`{each.name}`: {len(spec.ports)} ports, {len(spec.in_order)} connections, {spec.steps} steps"
        yield str(network.total(spec))


ABOUT: Mapping[str, Callable[[Occurrence, Reading], Iterator[str]]] = {
    "call": _call,
    "word": _call,
    "definition": _definition,
    "layer": _layer,
    "port": _port,
    "setting": _setting,
    "section": _section,
    "argument": _argument,
    "import": _import,
    "network": _network,
}
"""What is said about a name, by its kind."""
