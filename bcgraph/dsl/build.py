# ruff: noqa: D102 - a method is the grammar rule of its name
"""From grammar rules to syntax nodes, while the text is being parsed: no tree is walked, so none can be too deep."""

from __future__ import annotations

from typing import Any, cast

from lark import Transformer

from bcgraph.dsl import syntax
from bcgraph.dsl.tokens import Lexeme, unescape
from bcgraph.errors import Span


def _span(children: list[Any]) -> Span:
    first, last = children[0].span, children[-1].span
    return Span(first.file, first.line, first.column, last.end_line, last.end_column)


def _nodes(children: list[Any]) -> list[Any]:
    return [child for child in children if not isinstance(child, Lexeme)]


def _tokens(children: list[Any], kind: str) -> list[Lexeme]:
    return [child for child in children if isinstance(child, Lexeme) and child.type == kind]


class Body(tuple[Any, ...]):
    """The statements of a body between its braces, with the span of the braces."""

    span: Span


class Builder(Transformer[Lexeme, Any]):
    """One method a grammar rule; each gets the tokens and nodes of its rule in the order of the text."""

    def start(self, children: list[Any]) -> syntax.File:
        return syntax.File(tuple(_nodes(children)))

    def body(self, children: list[Any]) -> Body:
        body = Body(_nodes(children))
        body.span = _span(children)
        return body

    # Statements.

    def header(self, c: list[Any]) -> syntax.Header:
        return syntax.Header(int(c[1]), span=_span(c))

    def import_(self, c: list[Any]) -> syntax.Import:
        return syntax.Import(self.string(c[1:]), span=_span(c))

    def block(self, c: list[Any]) -> syntax.Block:
        parameters = tuple(x for x in c if isinstance(x, syntax.Parameter))
        return syntax.Block(str(c[1]), parameters, tuple(c[-1]), name_span=c[1].span, span=_span(c))

    def definition(self, c: list[Any]) -> syntax.Definition:
        parameters = tuple(x for x in c if isinstance(x, syntax.Parameter))
        names = {"kind_span": c[0].span, "name_span": c[1].span}
        return syntax.Definition(str(c[0]), str(c[1]), parameters, tuple(c[-1]), **names, span=_span(c))

    def use(self, c: list[Any]) -> syntax.Use:
        return syntax.Use(str(c[0]), self.string(c[1:]), span=_span(c))

    def parameter(self, c: list[Any]) -> syntax.Parameter:
        return syntax.Parameter(str(c[0]), c[2] if len(c) > 1 else None, span=_span(c))

    def network(self, c: list[Any]) -> syntax.Network:
        return syntax.Network(str(c[1]), tuple(c[2]), name_span=c[1].span, span=_span(c))

    def section(self, c: list[Any]) -> syntax.Section:
        return syntax.Section(str(c[0]), tuple(c[1]), name_span=c[0].span, span=_span(c))

    def connection(self, c: list[Any]) -> syntax.Connection:
        body = tuple(c[4]) if len(c) > 4 else ()
        return syntax.Connection(str(c[0]), c[1], c[3], body, word_span=c[0].span, span=_span(c[1:4]))

    def port(self, c: list[Any]) -> syntax.Port:
        if c[0].type == "AT":
            return syntax.Port(int(c[1]), None, span=_span(c))
        return syntax.Port(None, str(c[0]), span=_span(c))

    def sum(self, c: list[Any]) -> syntax.Sum:
        return syntax.Sum(tuple(c[1]), span=c[0].span)

    def concat(self, c: list[Any]) -> syntax.Concat:
        return syntax.Concat(tuple(c[1]), span=c[0].span)

    def branch(self, c: list[Any]) -> syntax.Branch:
        return syntax.Branch(c[2] if len(c) > 2 else None, tuple(c[-1]), span=c[0].span)

    def if_(self, c: list[Any]) -> syntax.If:
        otherwise: tuple[Any, ...] = ()
        if len(c) > 3:
            otherwise = (c[4],) if isinstance(c[4], syntax.If) else tuple(c[4])
        return syntax.If(c[1], tuple(c[2]), otherwise, span=c[0].span)

    def repeat(self, c: list[Any]) -> syntax.Repeat:
        return syntax.Repeat(str(c[1]), c[3], tuple(c[4]), variable_span=c[1].span, span=c[0].span)

    def assign(self, c: list[Any]) -> syntax.Assign:
        return syntax.Assign(c[0], c[2], span=_span(c))

    def index(self, c: list[Any]) -> syntax.Index:
        return syntax.Index(int(c[0]), span=_span(c))

    def computed(self, c: list[Any]) -> syntax.Computed:
        return syntax.Computed(c[1], span=_span(c))

    def bare(self, c: list[Any]) -> syntax.Bare | syntax.Formula:
        if isinstance(c[0], syntax.Call):
            return syntax.Bare(c[0], span=_span(c))
        return syntax.Formula(c[0], span=_span(c))

    def declaration(self, c: list[Any]) -> syntax.Declaration:
        of = str(c[2]) if len(c) > 4 else None
        names = {"kind_span": c[0].span, "name_span": c[-3].span}
        return syntax.Declaration(str(c[0]), of, str(c[-3]), c[-1], **names, span=_span(c))

    # Expressions.

    def conditional(self, c: list[Any]) -> syntax.Conditional:
        return syntax.Conditional(c[0], c[2], c[4], span=_span(c))

    def binary(self, c: list[Any]) -> syntax.Binary:
        return syntax.Binary(str(c[1]), c[0], c[2], span=_span(c))

    def unary(self, c: list[Any]) -> syntax.Unary:
        return syntax.Unary(str(c[0]), c[1], span=_span(c))

    def group(self, c: list[Any]) -> Any:
        return c[1]

    def number(self, c: list[Any]) -> syntax.Number | syntax.Broken:
        if c[0].broken:
            return syntax.Broken(span=_span(c))
        return syntax.Number(int(c[0]) if c[0].type == "INT" else float(c[0]), span=_span(c))

    def string(self, c: list[Any]) -> syntax.String | syntax.Broken:
        if c[0].broken:
            return syntax.Broken(span=_span(c))
        return syntax.String(cast(str, unescape(c[0][1:-1])), span=_span(c))

    def boolean(self, c: list[Any]) -> syntax.Boolean:
        return syntax.Boolean(c[0].type == "TRUE", span=_span(c))

    def name(self, c: list[Any]) -> syntax.Name:
        return syntax.Name(str(c[0]), span=_span(c))

    def dotted(self, c: list[Any]) -> syntax.Dotted:
        return syntax.Dotted(str(c[0]), span=_span(c))

    def call(self, c: list[Any]) -> syntax.Call:
        arguments = tuple(x for x in c if isinstance(x, syntax.Argument))
        return syntax.Call(str(c[0]), arguments, name_span=c[0].span, span=_span(c))

    def argument(self, c: list[Any]) -> syntax.Argument:
        if len(c) == 3:
            return syntax.Argument(str(c[0]), c[2], span=_span(c))
        return syntax.Argument(None, c[0], span=_span(c))

    def list(self, c: list[Any]) -> syntax.List:
        return syntax.List(tuple(_nodes(c)), span=_span(c))
