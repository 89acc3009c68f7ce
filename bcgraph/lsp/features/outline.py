"""Document symbols and folding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lsprotocol import types

from bcgraph.dsl import syntax
from bcgraph.dsl.parser import grammar
from bcgraph.dsl.source import Reporter, Source, Stop
from bcgraph.dsl.tokens import Lexeme, tokenize
from bcgraph.dsl.walk import bodies
from bcgraph.errors import Span
from bcgraph.lsp.session import Session

_KINDS = {
    "block": types.SymbolKind.Class,
    "neuron": types.SymbolKind.Function,
    "surrogate": types.SymbolKind.Function,
}


def symbols(session: Session, params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
    """The outline: definitions with their layers, the network with its connections, sections with theirs."""
    tree = session.reading(params.text_document.uri).tree
    return [] if tree is None else list(_symbols(tree.statements, session))


def _symbols(body: Sequence[syntax.Statement], session: Session) -> Iterator[types.DocumentSymbol]:
    for statement in body:
        found = _symbol(statement)
        if found is None:
            # What has no name of its own, as a branch, shows its content.
            for inner in bodies(statement):
                yield from _symbols(inner, session)
            continue
        name, kind, span, detail, children = found
        place = session.range(span)
        # The whole of a statement covers its name, whatever its own span covers.
        whole = session.range(_whole(statement, span))
        yield types.DocumentSymbol(
            name, kind, whole, place, detail=detail, children=list(_symbols(children, session)) or None
        )


_Found = tuple[str, types.SymbolKind, Span, str | None, Sequence[syntax.Statement]]


def _symbol(statement: syntax.Statement) -> _Found | None:
    match statement:
        case syntax.Block(name=name, name_span=span, body=body):
            return name, _KINDS["block"], span, "block", body
        case syntax.Definition(kind=kind, name=name, name_span=span):
            return name, _KINDS.get(kind, types.SymbolKind.Function), span, kind, ()
        case syntax.Network(name=name, name_span=span, body=body):
            return name, types.SymbolKind.Module, span, "network", body
        case syntax.Section(name=name, name_span=span, body=body):
            return name, types.SymbolKind.Namespace, span, None, body
        case syntax.Connection(word=word, source=source, target=target, span=span):
            return f"{_port(source)} -> {_port(target)}", types.SymbolKind.Event, span, word, ()
        case syntax.Assign(target=syntax.Name(name=name) as target, value=value):
            return name, types.SymbolKind.Field, target.span, _called(value), ()
        case syntax.Assign(target=syntax.Index(number=number) as target, value=value):
            return str(number), types.SymbolKind.Field, target.span, _called(value), ()
        case _:
            return None


def _port(port: syntax.Port) -> str:
    return f"@{port.number}" if port.number is not None else str(port.name)


def _called(value: syntax.Expression) -> str | None:
    return f"{value.name}(...)" if isinstance(value, syntax.Call) else None


def _whole(statement: syntax.Statement, name: Span) -> Span:
    span = statement.span
    if (span.line, span.column) <= (name.line, name.column) and (name.end_line, name.end_column) <= (
        span.end_line,
        span.end_column,
    ):
        return span
    return name


def folds(session: Session, params: types.FoldingRangeParams) -> list[types.FoldingRange]:
    """What can be folded: bodies, and comments of several lines."""
    return list(_folds(_tokens(session.reading(params.text_document.uri).source)))


def _tokens(source: Source) -> list[Lexeme]:
    try:
        return tokenize(grammar(), source, Reporter())
    except Stop:
        return []


def _folds(tokens: Sequence[Lexeme]) -> Iterator[types.FoldingRange]:
    braces: list[Lexeme] = []
    comment: Span | None = None
    alone = True
    for token in tokens:
        span = token.span
        if token.type == "LBRACE":
            braces.append(token)
        elif token.type == "RBRACE" and braces:
            opened = braces.pop().span
            if span.line - 1 > opened.line:
                yield types.FoldingRange(opened.line - 1, span.line - 2, kind=types.FoldingRangeKind.Region)
        if token.type == "COMMENT" and alone:
            if comment is not None and comment.end_line == span.line - 1:
                comment = replace(comment, end_line=span.line)
            else:
                yield from _comment(comment)
                comment = span
        alone = token.type == "NEWLINE"
    yield from _comment(comment)


def _comment(span: Span | None) -> Iterator[types.FoldingRange]:
    if span is not None and span.end_line > span.line:
        yield types.FoldingRange(span.line - 1, span.end_line - 1, kind=types.FoldingRangeKind.Comment)
