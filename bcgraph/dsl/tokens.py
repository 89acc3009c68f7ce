"""From a text to its tokens, with what can be judged of a token on its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from lark import Lark, Token

from bcgraph.dsl import grammar
from bcgraph.dsl.source import Reporter, Source
from bcgraph.dsl.wording import short
from bcgraph.errors import Span

if TYPE_CHECKING:
    from lark.visitors import Transformer

MAX_DEPTH = 64
MAX_TOKENS = 100_000
MAX_NAME = 200
MAX_DIGITS = 18

OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSERS = {close: open_ for open_, close in OPENERS.items()}

_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}


class Lexeme(Token):
    """A token that knows its span, and whether it is a literal that could not be read."""

    __slots__ = ("broken", "span")
    span: Span
    broken: bool


@cache
def lark(transformer: Transformer[Any, Any] | None = None) -> Lark:
    """The parser of the grammar, once a process."""
    return grammar.load(transformer)


def tokenize(parser: Lark, source: Source, reporter: Reporter) -> list[Lexeme]:
    """All tokens of a text, line ends and comments included.

    Reports malformed numbers and strings (E005), names that are too long (E010), nesting that is too deep (E004) and
    texts of too many tokens (E002); the last two stop. Every number and string that is left can be evaluated.
    """
    result: list[Lexeme] = []
    depth = 0
    for token in _lexed(parser, source.text):
        lexeme = _lexeme(token, source.file)
        if len(result) >= MAX_TOKENS:
            reporter.stop("E002", f"the text has more than {MAX_TOKENS:,} tokens", lexeme.span)
        if token.type in OPENERS:
            depth += 1
            if depth > MAX_DEPTH:
                reporter.stop(
                    "E004", f"this is nested more than {MAX_DEPTH} levels deep", lexeme.span, "split it into blocks"
                )
        elif token.type in CLOSERS:
            depth = max(0, depth - 1)
        previous = result[-1] if result else None
        if token.type == "NAME" and previous is not None and _touches(previous, lexeme):
            span = _join(previous.span, lexeme.span)
            reporter.add("E005", f"`{short(previous + lexeme)}` is neither a number nor a name", span)
            previous.broken = True
            continue
        result.append(_checked(lexeme, reporter))
    return result


def _lexed(lark: Lark, text: str) -> Iterator[Token]:
    """What `lark.lex` gives, without a new lexer for each text."""
    parser = lark.parse_interactive(text)
    found: Iterator[Token] = parser.lexer_thread.lex(parser.parser_state)  # type: ignore[no-untyped-call]
    return found


def unescape(text: str) -> str | None:
    """The value of a string literal without its quotes; None where an escape is unknown."""
    if "\\" not in text:
        return text
    parts: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char != "\\":
            parts.append(char)
            position += 1
        elif text[position + 1] in _ESCAPES:
            parts.append(_ESCAPES[text[position + 1]])
            position += 2
        else:
            end = text.find("}", position)
            digits = text[position + 3 : end]
            if not text.startswith("u{", position + 1) or not 1 <= len(digits) <= 6 or end < 0:
                return None
            try:
                parts.append(chr(int(digits, 16)))
            except ValueError:
                return None
            position = end + 1
    return "".join(parts)


def escape(value: str) -> str:
    """The string literal of a value, quotes included, all on one line."""
    inverse = {v: f"\\{k}" for k, v in _ESCAPES.items()}
    return '"' + "".join(inverse.get(c, c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in value) + '"'


def _lexeme(token: Token, file: str) -> Lexeme:
    lexeme = Lexeme(
        token.type,
        str(token),
        token.start_pos,
        token.line,
        token.column,
        token.end_line,
        token.end_column,
        token.end_pos,
    )
    assert token.line is not None
    assert token.column is not None
    lexeme.span = Span(file, token.line, token.column, token.line, token.column + max(1, len(token.rstrip("\r\n"))))
    lexeme.broken = False
    return lexeme


def _retyped(lexeme: Lexeme, type_: str, text: str) -> Lexeme:
    other = Lexeme(type_, text, lexeme.start_pos, lexeme.line, lexeme.column, lexeme.end_line, lexeme.end_column)
    other.end_pos = lexeme.end_pos
    other.span = lexeme.span
    other.broken = True
    return other


def _checked(lexeme: Lexeme, reporter: Reporter) -> Lexeme:
    kind, text, span = lexeme.type, str(lexeme), lexeme.span
    if kind == "INT" and len(text) > MAX_DIGITS:
        reporter.add("E005", f"a number of {len(text)} digits is too large", span, f"up to {MAX_DIGITS} digits")
        return _retyped(lexeme, kind, "0")
    if kind == "FLOAT" and (len(text) > 400 or not math.isfinite(float(text))):
        reporter.add("E005", f"`{short(text)}` is out of range", span, "numbers are 64-bit floating point")
        return _retyped(lexeme, kind, "0.0")
    if kind == "UNCLOSED":
        reporter.add("E005", "the string is not closed", span, 'a string ends with `"` on the line where it began')
        return _retyped(lexeme, "STRING", '""')
    if kind == "STRING" and unescape(text[1:-1]) is None:
        known = ", ".join(f"`\\{c}`" for c in _ESCAPES)
        reporter.add("E005", "the string holds an unknown escape", span, f"known: {known} and `\\u{{hex}}`")
        return _retyped(lexeme, "STRING", '""')
    if kind == "NAME" and len(text) > MAX_NAME:
        reporter.add("E010", f"a name of {len(text)} characters is too long", span, f"up to {MAX_NAME} characters")
        return _retyped(lexeme, kind, text[:MAX_NAME])
    return lexeme


def _touches(first: Lexeme, second: Lexeme) -> bool:
    return first.type in ("INT", "FLOAT") and first.end_pos == second.start_pos


def _join(first: Span, last: Span) -> Span:
    return Span(first.file, first.line, first.column, last.end_line, last.end_column)
