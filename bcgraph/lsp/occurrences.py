"""Where names stand in a syntax tree, and what kind of name each is. Nothing is looked up elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from bcgraph.dsl import syntax
from bcgraph.dsl.walk import statements_of
from bcgraph.errors import Span

Kind = Literal[
    "argument", "call", "definition", "import", "keyword", "layer", "local", "network", "port", "section", "setting",
    "word",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A name in a text.

    `local` names have a meaning in one definition alone, and `at` is where they get it: parameters, variables of
    repetitions, values of equations. `of` is the call that an argument belongs to; `path` the sections around a
    setting; `value` what stands under the name of a layer.
    """

    kind: Kind
    name: str
    span: Span
    defines: bool = False
    at: Span | None = None
    of: syntax.Call | None = None
    path: tuple[str, ...] = ()
    port: syntax.Port | None = None
    value: syntax.Expression | None = None


def occurrences(file: syntax.File) -> Iterator[Occurrence]:
    """Every name of a text, roughly in the order of the text."""
    for statement in file.statements:
        yield from _top(statement)


def head(span: Span, length: int) -> Span:
    """The beginning of a span."""
    return replace(span, end_line=span.line, end_column=span.column + length)


def _top(statement: syntax.Statement) -> Iterator[Occurrence]:
    match statement:
        case syntax.Header():
            yield Occurrence("keyword", "bcg", head(statement.span, 3))
        case syntax.Import():
            yield Occurrence("keyword", "import", head(statement.span, 6))
            if isinstance(statement.path, syntax.String):
                yield Occurrence("import", statement.path.value, statement.path.span)
        case syntax.Use():
            yield Occurrence("keyword", statement.word, head(statement.span, len(statement.word)))
        case syntax.Block() | syntax.Definition():
            yield from _definition(statement)
        case syntax.Network():
            yield Occurrence("keyword", "network", head(statement.span, 7))
            yield Occurrence("network", statement.name, statement.name_span, defines=True)
            for inner in statement.body:
                yield from _setting(inner, ("network",))
        case _:
            yield from _setting(statement, ())


def _setting(statement: syntax.Statement, path: tuple[str, ...]) -> Iterator[Occurrence]:
    """The names of a statement of a network or a section."""
    match statement:
        case syntax.Section():
            yield Occurrence("section", statement.name, statement.name_span, path=path)
            for inner in statement.body:
                yield from _setting(inner, (*path, statement.name))
        case syntax.Assign(target=syntax.Name(name=name) as target, value=value):
            yield Occurrence("setting", name, target.span, path=path)
            yield from _expression(value, {})
        case syntax.Connection():
            yield Occurrence("keyword", statement.word, statement.word_span)
            for port in (statement.source, statement.target):
                yield Occurrence("port", _written(port), port.span, port=port)
            for inner in statement.body:
                yield from _setting(inner, ("connection",))
        case syntax.Formula(value=value):
            yield from _expression(value, {})
        case syntax.Bare(call=call):
            yield from _expression(call, {})
        case _:
            pass


def _written(port: syntax.Port) -> str:
    return f"@{port.number}" if port.number is not None else str(port.name)


def _definition(text: syntax.Block | syntax.Definition) -> Iterator[Occurrence]:
    if isinstance(text, syntax.Block):
        yield Occurrence("keyword", "block", head(text.span, 5))
    else:
        yield Occurrence("keyword", text.kind, text.kind_span)
    yield Occurrence("definition", text.name, text.name_span, defines=True, at=text.name_span)
    known: dict[str, Span] = {}
    for parameter in text.parameters:
        place = head(parameter.span, len(parameter.name))
        known.setdefault(parameter.name, place)
        yield Occurrence("local", parameter.name, place, defines=True, at=known[parameter.name])
        if parameter.default is not None:
            yield from _expression(parameter.default, known)
    if isinstance(text, syntax.Definition):
        yield from _equations(text, known)
    else:
        yield from _body(text.body, known)


def _equations(text: syntax.Definition, known: dict[str, Span]) -> Iterator[Occurrence]:
    for statement in statements_of(text.body):
        match statement:
            case syntax.Declaration():
                yield Occurrence("keyword", statement.kind, statement.kind_span)
                known.setdefault(statement.name, statement.name_span)
                at = known[statement.name]
                yield Occurrence("local", statement.name, statement.name_span, defines=True, at=at)
                yield from _expression(statement.value, known)
            case syntax.Assign(target=syntax.Name(name=name) as target, value=value):
                yield from _expression(value, known)
                known.setdefault(name, target.span)
                yield Occurrence("local", name, target.span, defines=True, at=known[name])
            case syntax.Formula(value=value) | syntax.Bare(call=value):
                yield from _expression(value, known)
            case _:
                pass


def _body(body: tuple[syntax.Statement, ...], known: Mapping[str, Span]) -> Iterator[Occurrence]:
    for statement in body:
        match statement:
            case syntax.Assign(target=target, value=value):
                if isinstance(target, syntax.Computed):
                    yield from _expression(target.value, known)
                else:
                    name = target.name if isinstance(target, syntax.Name) else str(target.number)
                    yield Occurrence("layer", name, target.span, defines=True, at=target.span, value=value)
                yield from _expression(value, known)
            case syntax.Bare(call=call):
                yield from _expression(call, known)
            case syntax.Repeat():
                yield Occurrence("keyword", "repeat", statement.span)
                place = statement.variable_span
                yield Occurrence("local", statement.variable, place, defines=True, at=place)
                yield from _expression(statement.values, known)
                yield from _body(statement.body, {**known, statement.variable: place})
            case syntax.If():
                yield Occurrence("keyword", "if", statement.span)
                yield from _expression(statement.test, known)
                yield from _body(statement.then, known)
                yield from _body(statement.otherwise, known)
            case syntax.Branch():
                yield Occurrence("keyword", "branch", statement.span)
                if statement.test is not None:
                    yield from _expression(statement.test, known)
                yield from _body(statement.body, known)
            case syntax.Sum() | syntax.Concat():
                yield Occurrence("keyword", type(statement).__name__.lower(), statement.span)
                yield from _body(statement.body, known)
            case syntax.Section():
                yield Occurrence("keyword", statement.name, statement.name_span)
                yield from _body(statement.body, known)
            case _:
                pass


def _expression(value: syntax.Expression, known: Mapping[str, Span]) -> Iterator[Occurrence]:
    match value:
        case syntax.Name(name=name):
            if name in known:
                yield Occurrence("local", name, value.span, at=known[name])
            else:
                yield Occurrence("word", name, value.span)
        case syntax.Call():
            yield Occurrence("call", value.name, value.name_span)
            for argument in value.arguments:
                if argument.name is not None:
                    place = head(argument.span, len(argument.name))
                    yield Occurrence("argument", argument.name, place, of=value)
                yield from _expression(argument.value, known)
        case syntax.List(items=items):
            for item in items:
                yield from _expression(item, known)
        case syntax.Unary(operand=operand):
            yield from _expression(operand, known)
        case syntax.Binary(left=left, right=right):
            yield from _expression(left, known)
            yield from _expression(right, known)
        case syntax.Conditional(then=then, test=test, otherwise=otherwise):
            for part in (then, test, otherwise):
                yield from _expression(part, known)
        case _:
            pass
