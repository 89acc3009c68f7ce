"""Where the cursor stands: the bodies and calls around it, and what is written of its statement. Works on tokens alone,
since a text that is being typed seldom parses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bcgraph.dsl.parser import grammar
from bcgraph.dsl.source import Reporter, Source, Stop
from bcgraph.dsl.tokens import Lexeme, tokenize

_TOUCHED = frozenset(("NAME", "DOTTED", "INT", "FLOAT"))


@dataclass(slots=True)
class _Frame:
    """An open bracket: the statement before it, and what stands in it since its last separator."""

    bracket: str
    head: list[Lexeme]
    statement: list[Lexeme] = field(default_factory=list)
    before: list[list[Lexeme]] = field(default_factory=list)

    def end(self) -> None:
        if self.statement:
            self.before.append(self.statement)
        self.statement = []


@dataclass(frozen=True, slots=True)
class Context:
    """The place of the cursor.

    `bodies` are the statements that opened the braces around it, from the outside in. `call` is the name before the
    innermost parenthesis, `list` says whether the cursor stands in one, and `earlier` are the arguments, items or
    statements before this one. `statement` is what stands of it before the word being typed, which is `word`.
    """

    bodies: tuple[tuple[str, ...], ...]
    call: str | None
    list: bool
    earlier: tuple[tuple[str, ...], ...]
    statement: tuple[str, ...]
    word: str
    string: bool = False


def context(lines: Sequence[str], line: int, column: int) -> Context:
    """The context at a line and column of a text, both from 1."""
    text = "\n".join([*lines[: line - 1], lines[line - 1][: column - 1] if line <= len(lines) else ""])
    source = Source.of(text, "<cursor>")
    try:
        tokens = tokenize(grammar(), source, Reporter())
    except Stop:
        tokens = []
    word = ""
    string = False
    if tokens:
        last = tokens[-1]
        at_end = (last.span.end_line, last.span.end_column) == (line, column)
        commented = last.type == "COMMENT"
        string = last.broken and last.type == "STRING"
        if (at_end and (last.type in _TOUCHED or last.isidentifier())) or string or commented:
            word = str(last)
            tokens = tokens[:-1]
        if commented:
            string = True
    frames = [_Frame("{", [])]
    for token in tokens:
        _take(token, frames)
    inner = frames[-1]
    bodies = tuple(tuple(map(str, f.head)) for f in frames if f.bracket == "{" and f.head)
    # The statement that a parenthesis or a list belongs to stands around it.
    outer = [t for f in frames if f.bracket != "{" for t in f.head]
    call = next((str(f.head[-1]) for f in reversed(frames) if f.bracket == "(" and f.head), None)
    statement = [*outer, *inner.statement] if inner.bracket == "[" else inner.statement
    return Context(
        bodies,
        call if inner.bracket != "{" else None,
        inner.bracket == "[",
        tuple(tuple(map(str, part)) for part in inner.before),
        tuple(map(str, statement)),
        word,
        string,
    )


def _take(token: Lexeme, frames: list[_Frame]) -> None:
    kind, inner = token.type, frames[-1]
    if kind == "COMMENT":
        return
    if kind in ("LBRACE", "LPAR", "LSQB"):
        frames.append(_Frame(str(token), list(inner.statement)))
    elif kind in ("RBRACE", "RPAR", "RSQB"):
        if len(frames) > 1:
            closed = frames.pop()
            inside = [t for part in (*closed.before, closed.statement) for t in part]
            frames[-1].statement += inside if closed.bracket != "{" else []
        if kind == "RBRACE":
            while len(frames) > 1 and frames[-1].bracket != "{":
                frames.pop()
            # What stood before the brace was a statement, which ends here.
            frames[-1].end()
    elif (kind in ("NEWLINE", "SEMICOLON") and inner.bracket == "{") or (kind == "COMMA" and inner.bracket != "{"):
        inner.end()
    elif kind != "NEWLINE":
        inner.statement.append(token)
