"""A text with other connections: statements are taken out and added, and all else stays, comments included."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bcgraph.dsl import syntax
from bcgraph.dsl.fmt import format_text
from bcgraph.dsl.parser import grammar, parse_file
from bcgraph.dsl.source import Reporter, Source
from bcgraph.dsl.tokens import Lexeme, tokenize
from bcgraph.dsl.walk import statements_of
from bcgraph.errors import RunError, Span
from bcgraph.schema import Connection, NetworkSpec, Place


def rewire(text: str, spec: NetworkSpec, wanted: Iterable[Connection], *, file: str = "<text>") -> str:
    """The text of `spec` with exactly the connections `wanted`, formatted.

    A connection of the text stays as it is written when `wanted` has one at its place (word, source, target, delay);
    others are taken out, and new ones stand after the last one of the text, by the names of their ports. All comments
    stay. Raises RunError (E084) where a connection does not stand in this text on its own.
    """
    source = Source.of(text, file)
    reporter = Reporter({file: source})
    tree = parse_file(source, reporter)
    reporter.check()
    tokens = list(tokenize(grammar(), source, Reporter()))
    places = {each.place: each for each in wanted}
    kept = {each.place for each in spec.connections if each.place in places}
    gone = [each for each in spec.connections if each.place not in places]
    network = next((s for s in tree.statements if isinstance(s, syntax.Network)), None)
    if network is None:
        raise RunError("E084", "the network does not stand in this file", hint="change the file that it imports")
    statements = [s for s in statements_of(network.body) if isinstance(s, syntax.Connection)]
    taken = _statements(gone, kept, spec, statements)
    new = [each for place, each in places.items() if place not in kept]
    offsets = _offsets(source)
    edits = [_removal(source.text, tokens, offsets, statement) for statement in taken]
    if new:
        edits.append(_addition(source.text, tokens, offsets, network, statements, [_line(each, spec) for each in new]))
    return format_text(_edited(source.text, edits), file)


Edit = tuple[int, int, str]
"""From and to which character, and what stands there instead."""


def _statements(
    gone: Sequence[Connection], kept: Collection[Place], spec: NetworkSpec, statements: Sequence[syntax.Connection]
) -> list[syntax.Connection]:
    """The statements of the connections that go. Raises RunError (E084)."""
    by_span = {statement.span: statement for statement in statements}
    staying = {each.span for each in spec.connections if each.place in kept}
    found = []
    for each in gone:
        if each.span is None or each.span not in by_span or each.span in staying:
            message = f"`{each.word} {each}` has no statement of its own in this file, so it cannot be taken out"
            raise RunError("E084", message, hint="change the file by hand")
        found.append(by_span[each.span])
    return found


def _offsets(source: Source) -> list[int]:
    """The offset of each line."""
    found = [0]
    for line in source.text.split("\n"):
        found.append(found[-1] + len(line) + 1)
    return found


def _start(span: Span, offsets: Sequence[int]) -> int:
    return offsets[span.line - 1] + span.column - 1


def _end(span: Span, offsets: Sequence[int]) -> int:
    return offsets[span.end_line - 1] + span.end_column - 1


def _extent(tokens: Sequence[Lexeme], statement: syntax.Connection) -> tuple[int, int]:
    """The first and the last token of a statement, its body and a semicolon included."""
    first = next(i for i, t in enumerate(tokens) if t.span == statement.word_span)
    ends = (statement.span.end_line, statement.span.end_column)
    last = max(i for i, t in enumerate(tokens) if (t.span.end_line, t.span.end_column) <= ends and i >= first)
    after = _code_after(tokens, last)
    # A body stands on the line where the ports end.
    if after is not None and tokens[after].type == "LBRACE":
        last = _closing(tokens, after)
        after = _code_after(tokens, last)
    if after is not None and tokens[after].type == "SEMICOLON":
        last = after
    return first, last


def _code_after(tokens: Sequence[Lexeme], index: int) -> int | None:
    """The next token, where it is neither a comment nor the end of a line."""
    if index + 1 < len(tokens) and tokens[index + 1].type not in ("COMMENT", "NEWLINE"):
        return index + 1
    return None


def _closing(tokens: Sequence[Lexeme], index: int) -> int:
    depth = 0
    for place in range(index, len(tokens)):
        depth += {"LBRACE": 1, "RBRACE": -1}.get(tokens[place].type, 0)
        if depth == 0:
            return place
    raise AssertionError("the text parses, so its braces close")


def _removal(text: str, tokens: Sequence[Lexeme], offsets: Sequence[int], statement: syntax.Connection) -> Edit:
    first, last = _extent(tokens, statement)
    comments = [str(t) for t in tokens[first:last] if t.type == "COMMENT"]
    start, end = _start(tokens[first].span, offsets), _end(tokens[last].span, offsets)
    instead = "".join(f"{comment}\n" for comment in comments)
    begin = offsets[tokens[first].span.line - 1]
    rest = text[end : text.find("\n", end) + 1 or len(text)]
    if not text[begin:start].strip() and not rest.strip():
        # The whole line goes.
        return begin, end + len(rest), instead
    return start, end, instead


def _addition(
    text: str,
    tokens: Sequence[Lexeme],
    offsets: Sequence[int],
    network: syntax.Network,
    statements: Sequence[syntax.Connection],
    lines: Sequence[str],
) -> Edit:
    own = [s for s in network.body if isinstance(s, syntax.Connection) and s in statements]
    if own:
        at = _end(tokens[_extent(tokens, own[-1])[1]].span, offsets)
        rest = text[at : text.find("\n", at) if "\n" in text[at:] else len(text)]
        if not rest.strip() or rest.lstrip().startswith("#"):
            # A comment behind the last one stays with it.
            at += len(rest)
    else:
        name = next(i for i, t in enumerate(tokens) if t.span == network.name_span)
        opening = next(i for i in range(name, len(tokens)) if tokens[i].type == "LBRACE")
        at = _start(tokens[_closing(tokens, opening)].span, offsets)
        lines = ["", *lines] if statements or network.body else lines
    return at, at, "\n" + "\n".join(lines) + "\n"


def _line(connection: Connection, spec: NetworkSpec) -> str:
    source, target = (spec.ports[port] for port in (connection.source, connection.target))
    return f"{connection.word} {source} -> {target}{connection.settings}"


def _edited(text: str, edits: Iterable[Edit]) -> str:
    found = text
    # From the end, so that earlier offsets hold. What is added at a place where something goes comes after that.
    for start, end, instead in sorted(edits, key=lambda e: (e[0], e[1]), reverse=True):
        found = found[:start] + instead + found[end:]
    return found
