"""Semantic tokens: what each word of a text is, where a grammar of an editor cannot know."""

from __future__ import annotations

from collections.abc import Mapping

from lsprotocol import types

from bcgraph.dsl.parser import grammar
from bcgraph.dsl.source import Reporter, Stop
from bcgraph.dsl.tokens import tokenize
from bcgraph.dsl.wording import KEYWORDS
from bcgraph.errors import Span
from bcgraph.lsp.occurrences import occurrences
from bcgraph.lsp.reading import Reading
from bcgraph.lsp.session import Session

LEGEND = types.SemanticTokensLegend(
    token_types=[
        "keyword", "class", "function", "namespace", "parameter", "property", "variable", "enumMember", "number",
        "string", "comment", "operator",
    ],
    token_modifiers=["declaration"],
)  # fmt: skip

_OF_TOKENS: Mapping[str, str] = {
    "INT": "number",
    "FLOAT": "number",
    "STRING": "string",
    "COMMENT": "comment",
    "ARROW": "operator",
    "AT": "operator",
    **{word.upper(): "keyword" for word in KEYWORDS},
}
_OF_NAMES: Mapping[str, str] = {
    "keyword": "keyword",
    "definition": "class",
    "call": "function",
    "network": "namespace",
    "section": "keyword",
    "setting": "property",
    "argument": "parameter",
    "layer": "property",
    "local": "variable",
    "port": "property",
    "word": "enumMember",
}


def tokens(session: Session, params: types.SemanticTokensParams) -> types.SemanticTokens:
    """The tokens of a document, each relative to the one before."""
    reading = session.reading(params.text_document.uri)
    data: list[int] = []
    line = start = 0
    for span, kind, declared in _classified(reading):
        place = session.range(span)
        length = place.end.character - place.start.character
        if place.start.line != place.end.line or length <= 0:
            continue
        down = place.start.line - line
        across = place.start.character - (start if down == 0 else 0)
        data += [down, across, length, LEGEND.token_types.index(kind), int(declared)]
        line, start = place.start.line, place.start.character
    return types.SemanticTokens(data)


def _classified(reading: Reading) -> list[tuple[Span, str, bool]]:
    """Every token with what it is, in the order of the text."""
    named = {
        (each.span.line, each.span.column): each
        for each in (occurrences(reading.tree) if reading.tree is not None else ())
        if each.kind in _OF_NAMES and not (each.port is not None and each.port.number is not None)
    }
    try:
        lexed = tokenize(grammar(), reading.source, Reporter())
    except Stop:
        return []
    found: list[tuple[Span, str, bool]] = []
    for token in lexed:
        each = named.get((token.span.line, token.span.column))
        if each is not None and each.span == token.span:
            found.append((token.span, _OF_NAMES[each.kind], each.defines))
        elif token.type in _OF_TOKENS:
            found.append((token.span, _OF_TOKENS[token.type], False))
    return found
