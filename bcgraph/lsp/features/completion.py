"""Completion: settings, ports, layers, blocks, neurons and arguments, from the declarations that `check` goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lsprotocol import types

from bcgraph import plugins
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.connections import STANDARD
from bcgraph.dsl.elaboration.definitions.equations import CONSTANTS
from bcgraph.dsl.elaboration.layers import LAYERS, NORMS
from bcgraph.dsl.elaboration.library import FOLDERS, NEURON, standard_folder
from bcgraph.dsl.elaboration.search.space import WORDS
from bcgraph.dsl.elaboration.settings import DATA_SETS
from bcgraph.dsl.elaboration.vocabulary.places import REQUIRED, SECTIONS, Setting, places
from bcgraph.dsl.wording import LINKS
from bcgraph.equations.expression import FUNCTIONS
from bcgraph.lsp.calls import parameters_of_call, words_of_argument
from bcgraph.lsp.context import Context, context
from bcgraph.lsp.features.hover import comment, described, signature
from bcgraph.lsp.network import port_shapes
from bcgraph.lsp.positions import place_of
from bcgraph.lsp.reading import Reading
from bcgraph.lsp.session import Session
from bcgraph.lsp.symbols import definition_of
from bcgraph.shapes import text as shape_text

TRIGGERS = ("@", ">", "=", "(", ",", "[", '"', " ", ".")


@dataclass(frozen=True, slots=True)
class Item:
    """One proposal: what is shown, what is written (with `$1` where the cursor goes), and what is said about it."""

    label: str
    kind: types.CompletionItemKind
    detail: str = ""
    insert: str | None = None
    about: str = ""


def complete(session: Session, params: types.CompletionParams) -> types.CompletionList:
    """What may be written at a position."""
    uri = params.text_document.uri
    reading = session.reading(uri)
    line, column = place_of(params.position, reading.source.lines, session.codec)
    where = context(reading.source.lines, line, column)
    found = {item.label: item for item in _items(where, session.meant(uri), reading)}
    return types.CompletionList(False, [_shown(item, where) for item in found.values()])


def _shown(item: Item, where: Context) -> types.CompletionItem:
    # Words with dots are filtered by the editor from their beginning on.
    return types.CompletionItem(
        item.label,
        kind=item.kind,
        detail=item.detail or None,
        documentation=types.MarkupContent(types.MarkupKind.Markdown, item.about) if item.about else None,
        insert_text=item.insert,
        insert_text_format=types.InsertTextFormat.Snippet if item.insert is not None and "$" in item.insert else None,
        filter_text=item.label,
    )


def _items(where: Context, meant: Reading, reading: Reading) -> Iterator[Item]:
    """The proposals; `meant` is the last reading that made a network."""
    if where.string:
        if where.statement[:1] == ("import",):
            yield from _files(reading)
        return
    if where.call is not None and not where.list:
        yield from _arguments(where, where.call, reading)
        return
    if (
        "->" in where.statement
        or where.statement[:1] in ({(w,) for w in ("backward", *LINKS)})
        or (where.statement[-1:] == ("@",))
    ):
        yield from _ports(where, meant)
        return
    body = where.bodies[-1] if where.bodies else ()
    yield from _PLACES[_place(body)](where, reading)


def _place(body: tuple[str, ...]) -> str:
    """What kind of body the cursor stands in, by the statement that opened it."""
    first = body[0] if body else ""
    if first in ("block", "sum", "concat", "branch", "if", "else", "repeat", "mul"):
        return "block"
    if first in ("neuron", "surrogate") and len(body) > 1:
        return "equations"
    if first == "network":
        return "network"
    if first in ("backward", *LINKS):
        return "connection"
    return "section" if first else "top"


# --- Statements and values --------------------------------------------------------------------------------


def _top(where: Context, reading: Reading) -> Iterator[Item]:
    if where.statement[:2] == ("data", "="):
        yield from _data_sets()
        return
    if where.statement:
        return
    keyword = types.CompletionItemKind.Keyword
    yield Item("network", keyword, "a network", "network ${1:net} {\n  $0\n}")
    yield Item("block", keyword, "a block of layers", "block ${1:name}($2) {\n  $0\n}")
    yield Item("neuron", keyword, "a neuron", "neuron ${1:name}(tau=0.5) {\n  state v = 0\n  $0\n}")
    yield Item("surrogate", keyword, "a surrogate", "surrogate ${1:name}(width=1.0) {\n  $0\n}")
    yield Item("import", keyword, "another file", 'import "$1"')
    yield Item("use", keyword, "a plugin", 'use "$1"')
    yield Item("data", types.CompletionItemKind.Property, "the data set", "data = $0")
    for name in SECTIONS:
        yield Item(name, keyword, f"settings of `{name}`", f"{name} {{\n  $0\n}}", places()[name,].about)
    if reading.tree is None or not any(isinstance(s, syntax.Header) for s in reading.tree.statements):
        yield Item("bcg", keyword, "the version of the language", "bcg 1\n")


def _network(where: Context, reading: Reading) -> Iterator[Item]:
    yield from _settings(where, ("network",), reading)
    if not where.statement:
        yield Item("backward", types.CompletionItemKind.Keyword, "a connection", "backward $1 -> $0")
        yield Item("forward", types.CompletionItemKind.Keyword, "a connection", "forward $1 -> $0")


def _section(where: Context, reading: Reading) -> Iterator[Item]:
    path = tuple(body[0] for body in where.bodies if body)
    yield from _settings(where, path, reading)
    if path == ("search", "space") and not where.statement:
        for word in WORDS:
            yield Item(word, types.CompletionItemKind.Keyword, "a line of the space", f"{word} $1 -> $0")


def _connection(where: Context, reading: Reading) -> Iterator[Item]:
    yield from _settings(where, ("connection",), reading)


def _settings(where: Context, path: tuple[str, ...], reading: Reading) -> Iterator[Item]:
    """The settings of a place that are not given yet, or the values of the one that is being written."""
    place = places().get(path)
    if place is None:
        return
    statement = where.statement
    if len(statement) >= 2 and statement[1] == "=" and statement[0] in place.settings:
        if len(statement) == 2 or where.list:
            yield from _values(place.settings[statement[0]], reading)
        return
    if statement:
        return
    given = {part[0] for part in where.earlier if part}
    for name, setting in place.settings.items():
        if name not in given:
            insert = f"{name} {{ $0 }}" if setting.braced else f"{name} = $0"
            example = REQUIRED.get(name, "") if path == ("network",) else ""
            about = described(setting) + (f"\n\n`{example}`" if example else "")
            yield Item(name, types.CompletionItemKind.Property, "a setting", insert, about)


def _values(setting: Setting, reading: Reading) -> Iterator[Item]:
    match setting.name:
        case "backbone":
            yield from _definitions("block", reading)
        case "neuron":
            yield from _definitions("neuron", reading)
        case "feedback" | "through":
            yield Item(STANDARD, types.CompletionItemKind.Function, "the standard projection", f"{STANDARD}($0)")
            yield from _definitions("block", reading, own=True)
        case "norm":
            for name in ("bn", *NORMS):
                yield Item(name, types.CompletionItemKind.Function, "a norm", f"{name}($0)")
        case "read":
            spec = reading.understood.spec
            for name, _ in spec.neuron.equations.body if spec is not None else ():
                yield Item(name, types.CompletionItemKind.Variable, "a value of the neuron")
        case _:
            yield from _of_kind(setting.kind)


def _of_kind(kind: kinds.Kind | None) -> Iterator[Item]:
    """What a kind allows, where that can be listed."""
    value = types.CompletionItemKind.EnumMember
    match kind:
        case kinds.Word(options, registered) | kinds.Words(options, registered):
            for option in options:
                yield Item(option, value)
            for entry in plugins.REGISTRY.entries() if registered is not None else ():
                if entry.kind == registered:
                    yield Item(entry.name, value, f"from {entry.origin.package}")
        case kinds.Either(word=word):
            yield from _of_kind(word)
        case kinds.Flag():
            yield Item("true", value)
            yield Item("false", value)
        case kinds.Called(options):
            for name, _ in options:
                yield Item(name, types.CompletionItemKind.Function, "", f"{name}($0)")
        case _:
            return


def _data_sets() -> Iterator[Item]:
    for name in DATA_SETS:
        yield Item(name, types.CompletionItemKind.Function, "a data set", f"{name}($0)")


def _definitions(kind: str, reading: Reading, *, own: bool = False) -> Iterator[Item]:
    """The blocks, neurons or surrogates that can be called; with `own` those of the text and its imports alone."""
    for name in reading.library.names(kind, reading.namespace):
        if own and name not in reading.namespace.definitions:
            continue
        found = definition_of(name, reading)
        detail = signature(found).partition(" ")[2] if found is not None else ""
        about = comment(found, reading) if found is not None else ""
        symbol = types.CompletionItemKind.Class if kind == "block" else types.CompletionItemKind.Function
        yield Item(name, symbol, detail, f"{name}($0)", about)


# --- Blocks and equations ---------------------------------------------------------------------------------

_IN_BLOCKS = {
    "sum": "sum {\n  branch { $1 }\n  branch { $0 }\n}",
    "concat": "concat {\n  branch { $1 }\n  branch { $0 }\n}",
    "mul": "mul {\n  branch { $1 }\n  branch { $0 }\n}",
    "branch": "branch { $0 }",
    "if": "if $1 { $0 }",
    "repeat": "repeat ${1:i} in range($2) { [$1] = $0 }",
}


def _block(where: Context, reading: Reading) -> Iterator[Item]:
    if where.statement[-1:] == ("=",) or not where.statement:
        for name, layer in LAYERS.items():
            named = "" if where.statement or not layer.named else f"${{1:{name}1}} = "
            shown = ", ".join(p.name for p in layer.parameters)
            yield Item(name, types.CompletionItemKind.Function, f"({shown})", f"{named}{name}($0)", "a layer")
        start = "" if where.statement else "${1:lif1} = "
        yield Item(NEURON, types.CompletionItemKind.Function, "the network's neuron", f"{start}{NEURON}()")
    if where.statement[-1:] == ("=",):
        yield from _definitions("block", reading)
        yield from _definitions("neuron", reading)
    elif not where.statement:
        for word, insert in _IN_BLOCKS.items():
            yield Item(word, types.CompletionItemKind.Keyword, "", insert)
    else:
        yield from _known(where)


def _equations(where: Context, reading: Reading) -> Iterator[Item]:
    if not where.statement:
        yield Item("state", types.CompletionItemKind.Keyword, "a state", "state ${1:v} = 0")
        yield Item("learn", types.CompletionItemKind.Keyword, "a trained value", "learn ${1:w} = 1")
        yield Item("require", types.CompletionItemKind.Keyword, "what parameters fulfil", "require($0)")
        if where.bodies[-1][0] == "neuron":
            return
    yield from _known(where)
    for name in ("I", "x", *CONSTANTS):
        yield Item(name, types.CompletionItemKind.Variable)
    for name, function in FUNCTIONS.items():
        if function.written:
            yield Item(name, types.CompletionItemKind.Function, "", f"{name}($0)")


def _known(where: Context) -> Iterator[Item]:
    """Names that statements before this one give: parameters, states, values."""
    words: list[str] = []
    for part in (*where.bodies, *where.earlier):
        words += part[1:2] if part[:1] in (("state",), ("learn",)) else ()
        # `name(a=1, b)`: what stands before `=`, and in the parentheses of a definition what stands alone.
        words += [word for word, follows in zip(part, (*part[1:], ""), strict=True) if follows == "="]
        words += part[2:] if part[:1] in (("block",), ("neuron",), ("surrogate",)) else ()
    for word in dict.fromkeys(words):
        if word.isidentifier():
            yield Item(word, types.CompletionItemKind.Variable)


# --- Arguments, ports and files ---------------------------------------------------------------------------


def _arguments(where: Context, call: str, reading: Reading) -> Iterator[Item]:
    parameters = parameters_of_call(call, reading)
    if parameters is None:
        return
    if len(where.statement) >= 2 and where.statement[1] == "=":
        kind = next((p.kind for p in parameters if p.name == where.statement[0]), None)
        yield from _of_kind(kind)
        if where.statement[0] == "surrogate":
            yield from _definitions("surrogate", reading)
        elif options := words_of_argument(call, where.statement[0], reading):
            yield from _of_kind(kinds.Word(options))
        elif kind is None:
            yield from _of_kind(kinds.Flag())
        return
    if where.statement:
        return
    given = {part[0] for part in where.earlier if len(part) > 1 and part[1] == "="}
    for parameter in parameters[sum(len(part) == 1 for part in where.earlier) :]:
        if parameter.name not in given:
            about = kinds.describe(parameter.kind) if parameter.kind is not None else ""
            detail = "required" if parameter.required else ""
            yield Item(parameter.name, types.CompletionItemKind.Field, detail, f"{parameter.name}=", about)


def _ports(where: Context, meant: Reading) -> Iterator[Item]:
    spec = meant.spec
    if spec is None:
        return
    reference = types.CompletionItemKind.Reference
    known = port_shapes(spec)
    signed = where.statement[-1:] == ("@",)
    if not signed and where.bodies and where.bodies[-1][:1] == ("space",):
        yield Item("any", reference, "every port")
        yield Item("later", reference, "every later port")
    for number, (name, shape) in enumerate(zip(spec.ports, known, strict=True)):
        if signed:
            yield Item(str(number), reference, f"{name}  {shape_text(shape)}")
        else:
            yield Item(name, reference, f"@{number}  {shape_text(shape)}")


def _files(reading: Reading) -> Iterator[Item]:
    """Files that can be imported: those beside the text, and those of the standard library."""
    folders = [(Path(reading.file).parent, "beside this file")]
    folders += [(standard_folder(kind), "the standard library") for kind in FOLDERS]
    for folder, detail in folders:
        for path in _listed(folder):
            if str(path) != reading.file:
                yield Item(path.name, types.CompletionItemKind.File, detail)


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.glob("*.bcg"))[:200]
    except OSError:
        return ()


_PLACES: dict[str, Callable[[Context, Reading], Iterator[Item]]] = {
    "top": _top,
    "network": _network,
    "section": _section,
    "connection": _connection,
    "block": _block,
    "equations": _equations,
}
