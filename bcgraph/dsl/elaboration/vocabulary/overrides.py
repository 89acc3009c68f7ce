"""Settings given beside a file (`--set steps=6`): a change of its syntax tree, as if the file said it.

A setting is named by its path, `train.epochs`, `search.evolve.iterations`, `steps`, or by the end of one that no other
path has, `iterations`. An argument of a call is a setting, too: `data.batch`, `backbone.width`, `train.optimizer.lr`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bcgraph import plugins, schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.vocabulary.places import NETWORK, SECTIONS
from bcgraph.dsl.parser import parse_file
from bcgraph.dsl.source import Reporter, Source
from bcgraph.errors import Span, nearest
from bcgraph.names import DEFAULT_NEURON
from bcgraph.schema.search import strategy_settings
from bcgraph.schema.values import has_statements

FILE = "--set"
"""The name under which diagnostics show settings that stand beside a file."""

Path: TypeAlias = tuple[str, ...]

_PATH = re.compile(r"\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*", re.ASCII)
_HINT = "write `--set steps=6` or `--set train.epochs=10`, for example"


@dataclass(frozen=True, slots=True)
class _Given:
    """One setting: its path as it was written, where it stands, and its value."""

    path: Path
    span: Span
    value: syntax.Expression


def override(file: syntax.File, settings: Sequence[str], reporter: Reporter) -> syntax.File:
    """`file` with each of `settings`, texts like `train.epochs=10`, in the place of what it says itself.

    What is wrong is reported, under the name `FILE`, and left out: E010 for a text that is no setting, E032 for a
    setting that no file has.
    """
    known = tuple(paths())
    for given in _read(settings, reporter):
        target = _resolve(given, known, reporter)
        if target is not None:
            path, argument = target
            file = replace(file, statements=_in_file(file.statements, path, argument, given))
    return file


def paths() -> Iterator[Path]:
    """The path of every setting of a file, those of every strategy included."""
    yield from ((name,) for name in NETWORK)
    yield ("data",)
    for name, model in SECTIONS.items():
        yield from _inner((name,), model)
    yield from _of_strategies()


def _of_strategies() -> Iterator[Path]:
    models = [model for name in plugins.names("strategy") if (model := strategy_settings(name)) is not None]
    for name in dict.fromkeys(name for model in models for name in kinds.fields(model)):
        yield ("search", "evolve", name)


def _inner(path: Path, model: type[BaseModel]) -> Iterator[Path]:
    for name, field in kinds.fields(model).items():
        section = kinds.section(field.annotation)
        if section is not None:
            yield from _inner((*path, name), section)
        elif not has_statements(field):
            yield (*path, name)


# --- Reading ----------------------------------------------------------------------------------------------


def _read(settings: Sequence[str], reporter: Reporter) -> Iterator[_Given]:
    lines = [" ".join(text.splitlines()) for text in settings]
    reporter.sources[FILE] = Source.of("\n".join(lines), FILE)
    for number, line in enumerate(lines, 1):
        found = _PATH.fullmatch(line.partition("=")[0])
        if found is None or "=" not in line:
            span = Span(FILE, number, 1, number, len(line) + 1)
            reporter.add("E010", f"`{line}` is no setting with a value", span, _HINT)
            continue
        # A path is no target of the grammar, so a word of the same length stands for it.
        start, end = found.span(1)
        blank = "\n" * (number - 1) + " " * start + "x".ljust(end - start) + line[end:] + "\n"
        before = len(reporter)
        parsed = parse_file(Source.of(blank, FILE), reporter)
        span = Span(FILE, number, start + 1, number, end + 1)
        match parsed.statements:
            case (syntax.Assign(value=value),) if len(reporter) == before:
                yield _Given(tuple(found[1].split(".")), span, value)
            case _ if len(reporter) == before:
                reporter.add("E010", f"`{line}` is more than one setting", span, "give each with a --set of its own")
            case _:
                pass


def _resolve(given: _Given, known: Sequence[Path], reporter: Reporter) -> tuple[Path, str | None] | None:
    """The path of the setting that is meant, and the argument of its call where that is what is set."""
    path = given.path[1:] if given.path[0] == "network" and len(given.path) > 1 else given.path
    arguments: list[tuple[Path, str | None]] = [(("data",), name) for name, *_ in kinds.arguments(schema.DataSpec)]
    targets: list[tuple[Path, str | None]] = [*((each, None) for each in known), *arguments]
    full = {(*each, *([] if argument is None else [argument])): (each, argument) for each, argument in targets}
    if path in full:
        return full[path]
    if len(path) > 1:
        calls = [each for each in known if each == path[:-1]] or [e for e in known if _ends(e, path[:-1])]
        if len(calls) == 1 and _takes_call(calls[0]):
            return calls[0], path[-1]
    found = [each for each in full if _ends(each, path)]
    # One that counts with every strategy goes before one that a strategy has.
    own = set(_of_strategies())
    found = [each for each in found if each not in own] or found
    if len(found) == 1:
        return full[found[0]]
    name = ".".join(path)
    if found:
        listed = " or ".join(f"`{'.'.join(each)}`" for each in found)
        reporter.add("E032", f"`{name}` may be any of several settings", given.span, f"write {listed}")
        return None
    words = [".".join(each) for each in full] + [each[-1] for each in full]
    hint = nearest(name, words) or _nearest_end(path, full) or _HINT
    reporter.add("E032", f"there is no setting `{name}`", given.span, hint)
    return None


def _ends(path: Path, end: Path) -> bool:
    return path[-len(end) :] == end


def _nearest_end(path: Path, known: Iterable[Path]) -> str | None:
    """The hint for a path whose first or last word is right."""
    same = [each for each in known if each[: len(path) - 1] == path[:-1]]
    return nearest(".".join(path), [".".join(each) for each in same])


# --- The change of the tree -------------------------------------------------------------------------------


def _in_file(
    statements: tuple[syntax.Statement, ...], path: Path, argument: str | None, given: _Given
) -> tuple[syntax.Statement, ...]:
    if path[0] in SECTIONS or path[0] == "data":
        return _in_body(statements, path, path, argument, given)
    changed = False
    made: list[syntax.Statement] = []
    for statement in statements:
        if isinstance(statement, syntax.Network) and not changed:
            changed = True
            statement = replace(statement, body=_in_body(statement.body, path, path, argument, given))
        made.append(statement)
    return tuple(made)


def _in_body(
    body: tuple[syntax.Statement, ...], rest: Path, path: Path, argument: str | None, given: _Given
) -> tuple[syntax.Statement, ...]:
    """The statements with the setting at `rest` changed, or added at the end."""
    name, *inner = rest

    def changed(old: syntax.Statement | None) -> syntax.Statement:
        if inner:
            section = old if isinstance(old, syntax.Section) else syntax.Section(name, (), name_span=given.span)
            return replace(section, body=_in_body(section.body, tuple(inner), path, argument, given))
        value = given.value
        if argument is not None:
            call = _call(old.value if isinstance(old, syntax.Assign) else None, path, given.span)
            if call is None:
                return old or syntax.Assign(syntax.Name(name, span=given.span), value, span=given.span)
            value = _with(call, argument, given)
        return syntax.Assign(syntax.Name(name, span=given.span), value, span=given.span)

    place = next((k for k, each in enumerate(body) if _is(each, name, section=bool(inner))), None)
    if place is None:
        return (*body, changed(None))
    return (*body[:place], changed(body[place]), *body[place + 1 :])


def _is(statement: syntax.Statement, name: str, *, section: bool) -> bool:
    match statement:
        case syntax.Section():
            return section and statement.name == name
        case syntax.Assign(target=syntax.Name(name=found)):
            return not section and found == name
        case _:
            return False


def _call(value: syntax.Expression | None, path: Path, span: Span) -> syntax.Call | None:
    """The call that is changed: that of the file, or where it has none that of the default."""
    if isinstance(value, syntax.Call):
        return value
    if isinstance(value, syntax.Name):
        return syntax.Call(value.name, (), name_span=value.span, span=value.span)
    if value is not None:
        return None
    name = _DEFAULTS.get(path[0], _default_call)(path)
    return None if name is None else syntax.Call(name, (), name_span=span, span=span)


def _takes_call(path: Path) -> bool:
    """Whether the values of a setting are calls, whose arguments can be set."""
    if path[0] in _DEFAULTS:
        return True
    return path[0] in SECTIONS and isinstance(kinds.kind_of(_field(path)), kinds.Called)


def _default_call(path: Path) -> str | None:
    """The name of the call that a setting of a section is by default."""
    return kinds.call_name(type(_field(path).default))


def _field(path: Path) -> FieldInfo:
    """The field of a setting in a section."""
    model = SECTIONS[path[0]]
    for name in path[1:-1]:
        inner = kinds.section(kinds.fields(model)[name].annotation)
        assert inner is not None, "a path goes through sections"
        model = inner
    return kinds.fields(model)[path[-1]]


_DEFAULTS: dict[str, Callable[[Path], str | None]] = {
    "data": lambda path: schema.DataSpec().name,
    "neuron": lambda path: DEFAULT_NEURON.partition("(")[0],
    "norm": lambda path: "bn",
    "feedback": lambda path: "project",
    "input": lambda path: None,
    "backbone": lambda path: None,
}


def _with(call: syntax.Call, argument: str, given: _Given) -> syntax.Call:
    """The call with one argument changed, or added by name."""
    made = syntax.Argument(argument, given.value, span=given.span)
    places = [k for k, each in enumerate(call.arguments) if each.name == argument]
    if not places:
        return replace(call, arguments=(*call.arguments, made))
    kept = (*call.arguments[: places[0]], made, *call.arguments[places[0] + 1 :])
    return replace(call, arguments=kept)
