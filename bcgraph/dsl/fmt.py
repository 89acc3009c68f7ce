"""`bcgraph fmt`: one layout for every text, with the author's comments, line breaks and groupings.

Works on tokens, line by line. What decides the layout of a line is its tokens and those of its neighbours, never the
spaces between them (the column of a trailing comment aside), so formatting twice changes nothing more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from bcgraph.dsl.parser import grammar, parse_file
from bcgraph.dsl.source import Reporter, Source, Stop, check_text
from bcgraph.dsl.tokens import CLOSERS, OPENERS, Lexeme, tokenize

_INDENT = 2
_TIGHT_BEFORE = {"RPAR", "RSQB", "COMMA", "SEMICOLON"}
_TIGHT_AFTER = {"LPAR", "LSQB", "AT"}
_OPERANDS = {"INT", "FLOAT", "STRING", "TRUE", "FALSE", "NAME", "DOTTED", "RPAR", "RSQB"}


@dataclass(slots=True)
class _Line:
    """One line of the text: its tokens, its comment, and whether an empty line stands before it."""

    tokens: list[Lexeme] = field(default_factory=list)
    comment: Lexeme | None = None
    blank_before: bool = False
    # What alignment adds before the first `=` or `{` of the line.
    padding: int = 0


@dataclass(frozen=True, slots=True)
class _Open:
    """An open bracket: where its content goes, and where its closing goes when that begins a line."""

    bracket: str
    content: int
    closing: int
    broken: bool


def format_text(text: str, file: str = "<text>") -> str:
    """The text in the one layout. Raises SpecError with every syntax error when it does not parse.

    Indentation is two spaces; lines of one `name = value` that follow each other are aligned, as are lines of one
    `name { ... }`; at most one empty line stands between two lines; a comment after code keeps its column where that
    is free. Comments, line breaks and `;` stay as they are.
    """
    check_text(text, file)
    source = Source.of(text, file)
    reporter = Reporter({file: source})
    with contextlib.suppress(Stop):
        parse_file(source, reporter)
    reporter.check()
    return layout(source)


def layout(source: Source) -> str:
    """As `format_text`, of a text that is known to parse."""
    lines = _lines(tokenize(grammar(), source, Reporter()))
    _align(lines)
    return _render(lines)


def _lines(tokens: Sequence[Lexeme]) -> list[_Line]:
    """The lines that are not empty, without semicolons that separate nothing."""
    lines: list[_Line] = []
    current = _Line()
    started = False
    blank = False

    def end() -> None:
        nonlocal current, blank
        while current.tokens and current.tokens[-1].type == "SEMICOLON":
            current.tokens.pop()
        if current.tokens or current.comment is not None:
            current.blank_before = blank and bool(lines)
            lines.append(current)
            blank = False
        elif not started:
            blank = True
        current = _Line()

    for token in tokens:
        if token.type == "NEWLINE":
            end()
            started = False
            continue
        started = True
        if token.type == "COMMENT":
            current.comment = token
            continue
        if token.type == "SEMICOLON" and (not current.tokens or current.tokens[-1].type in ("SEMICOLON", "LBRACE")):
            continue
        if token.type == "RBRACE":
            while current.tokens and current.tokens[-1].type == "SEMICOLON":
                current.tokens.pop()
        current.tokens.append(token)
    end()
    return lines


# --- Alignment --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Item:
    """A statement that fills whole lines, and the width of what stands before its `=` or `{`."""

    first: int
    last: int
    kind: str
    width: int


def _align(lines: list[_Line]) -> None:
    """Set the padding of lines in runs of one `name = value`, and of one `name { ... }`."""
    run: list[_Item] = []

    def close() -> None:
        widest = max((item.width for item in run), default=0)
        for item in run:
            lines[item.first].padding = widest - item.width
        run.clear()

    for item in _items(lines):
        follows = bool(run) and item.first == run[-1].last + 1 and not lines[item.first].blank_before
        if not follows or item.kind != run[-1].kind:
            close()
        run.append(item)
    close()


def _items(lines: list[_Line]) -> list[_Item]:
    """The statements that take part in alignment: alone on their lines, in a body whose brace ends a line."""
    items: list[_Item] = []
    brackets: list[bool] = []
    number = 0
    while number < len(lines):
        tokens = lines[number].tokens
        last = _end_of_statement(lines, number)
        if tokens and all(brackets) and last is not None:
            kind, width = _shape(lines, number, last)
            if kind:
                items.append(_Item(number, last, kind, width))
        for line in lines[number : (last or number) + 1]:
            _track(line, brackets)
        number = (last if last is not None else number) + 1
    return items


def _track(line: _Line, brackets: list[bool]) -> None:
    for position, token in enumerate(line.tokens):
        if token.type in OPENERS:
            brackets.append(position == len(line.tokens) - 1)
        elif token.type in CLOSERS:
            brackets.pop()


def _end_of_statement(lines: list[_Line], first: int) -> int | None:
    """The line on which all brackets that the line opens are closed; None where it closes more than it opens."""
    depth = 0
    for number in range(first, len(lines)):
        for token in lines[number].tokens:
            if token.type in OPENERS:
                if token.type == "LBRACE" and depth == 0 and token is lines[number].tokens[-1]:
                    return None
                depth += 1
            elif token.type in CLOSERS:
                depth -= 1
                if depth < 0:
                    return None
        if depth == 0:
            return number
    return None


def _shape(lines: list[_Line], first: int, last: int) -> tuple[str, int]:
    """`=` or `{` when the lines hold exactly one such statement, and the width before that sign."""
    tokens = [token for line in lines[first : last + 1] for token in line.tokens]
    if len(tokens) > 1 and tokens[0].type == "NAME" and tokens[1].type == "LBRACE":
        return ("{", len(tokens[0])) if _closes_at_end(tokens) else ("", 0)
    depth = 0
    sign = None
    for position, token in enumerate(tokens):
        depth += (token.type in OPENERS) - (token.type in CLOSERS)
        if depth == 0 and token.type == "SEMICOLON":
            return "", 0
        if sign is None and depth == 0 and token.type == "ASSIGN":
            sign = position
    if sign is None or sign >= len(lines[first].tokens):
        return "", 0
    # `state v = 0` is no `name = value`.
    declares = tokens[0].type == "NAME" and sign > 1 and tokens[1].type in ("NAME", "LSQB")
    return "=" if not declares else "declaration", len(_spaced(tokens[:sign]))


def _closes_at_end(tokens: Sequence[Lexeme]) -> bool:
    depth = 0
    for position, token in enumerate(tokens):
        depth += (token.type == "LBRACE") - (token.type == "RBRACE")
        if depth == 0 and token.type == "RBRACE":
            return position == len(tokens) - 1
    return False


# --- Rendering --------------------------------------------------------------------------------------------


def _render(lines: list[_Line]) -> str:
    result: list[str] = []
    stack: list[_Open] = []
    for line in lines:
        if line.blank_before:
            result.append("")
        code = _code(line, stack)
        if line.comment is not None:
            comment = line.comment.rstrip()
            if line.tokens:
                column = line.comment.span.column - 1
                gap = column - len(code) if column >= len(code) + 2 else 2
                code += " " * gap + comment
            else:
                code += comment
        result.append(code)
    return "\n".join(result) + "\n" if result else ""


def _code(line: _Line, stack: list[_Open]) -> str:
    """The line without its comment; moves `stack` to the end of the line."""
    tokens = line.tokens
    indent = stack[-1].content if stack else 0
    if tokens and tokens[0].type in CLOSERS and stack:
        indent = stack[-1].closing
    text = " " * indent
    start = indent
    pending = line.padding
    for position, token in enumerate(tokens):
        if position > 0:
            text += _gap(tokens, position, stack)
        if pending and token.type in ("ASSIGN", "LBRACE") and _at_statement(stack):
            text += " " * pending
            pending = 0
        if token.type in CLOSERS:
            closed = stack.pop()
            # What follows on this line, such as `else {`, belongs where the closed body began.
            start = closed.closing if token.type == "RBRACE" else start
        text += str(token)
        if token.type in OPENERS:
            broken = position == len(tokens) - 1
            inner = len(text) + (token.type == "LBRACE")
            stack.append(_Open(token.type, start + _INDENT if broken else inner, start, broken))
    return text


def _at_statement(stack: Sequence[_Open]) -> bool:
    return not stack or stack[-1].bracket == "LBRACE"


def _gap(tokens: Sequence[Lexeme], position: int, stack: Sequence[_Open]) -> str:
    """The space before a token that does not begin its line."""
    before, token = tokens[position - 1], tokens[position]
    if token.type in _TIGHT_BEFORE or before.type in _TIGHT_AFTER:
        return ""
    if "ASSIGN" in (token.type, before.type):
        return " " if _at_statement(stack) else ""
    if token.type == "LPAR" and before.type == "NAME":
        return ""
    if before.type == "LBRACE" and token.type == "RBRACE":
        return ""
    if before.type == "MINUS" and (position < 2 or tokens[position - 2].type not in _OPERANDS):
        return ""
    return " "


def _spaced(tokens: Sequence[Lexeme]) -> str:
    """Tokens of one statement on one line."""
    return _code(_Line(list(tokens)), [])
