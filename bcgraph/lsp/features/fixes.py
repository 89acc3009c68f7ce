"""Quick fixes: what the hint of a diagnostic says to write, written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lsprotocol import types

from bcgraph.errors import Diagnostic, Span
from bcgraph.lsp.positions import uri_of
from bcgraph.lsp.reading import Reading
from bcgraph.lsp.session import Session


@dataclass(frozen=True, slots=True)
class Fix:
    """A change of the text: `text` in the place of `span`."""

    title: str
    span: Span
    text: str


_Rule = Callable[[Diagnostic, Span, Reading], Iterator[Fix]]


def fixes(diagnostic: Diagnostic, reading: Reading) -> Iterator[Fix]:
    """The fixes of a diagnostic of this text."""
    span = diagnostic.span
    if span is not None and span.file == reading.file and diagnostic.hint is not None:
        for rule in RULES:
            found = list(rule(diagnostic, span, reading))
            if found:
                yield from found
                return


def actions(session: Session, params: types.CodeActionParams) -> list[types.CodeAction]:
    """The quick fixes of the diagnostics in a range."""
    reading = session.reading(params.text_document.uri)
    asked, found = params.range, []
    for diagnostic in reading.diagnostics:
        if diagnostic.span is None or diagnostic.span.file != reading.file:
            continue
        place = session.range(diagnostic.span)
        if not _meet(place, asked):
            continue
        matching = [d for d in params.context.diagnostics if d.range == place and d.code == diagnostic.code]
        for fix in fixes(diagnostic, reading):
            edit = types.TextEdit(session.range(fix.span), fix.text)
            found.append(
                types.CodeAction(
                    fix.title,
                    kind=types.CodeActionKind.QuickFix,
                    diagnostics=matching or None,
                    is_preferred=True,
                    edit=types.WorkspaceEdit(changes={uri_of(reading.file): [edit]}),
                )
            )
    return found


def _meet(a: types.Range, b: types.Range) -> bool:
    return (a.start.line, a.start.character) <= (b.end.line, b.end.character) and (
        b.start.line,
        b.start.character,
    ) <= (a.end.line, a.end.character)


def _quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def _comment(diagnostic: Diagnostic, span: Span, reading: Reading) -> Iterator[Fix]:
    found = re.fullmatch(r"write `#` in place of `(.+)`", diagnostic.hint or "")
    if found is not None:
        place = replace(span, end_line=span.line, end_column=span.column + len(found[1]))
        yield Fix("begin the comment with `#`", place, "#")


def _nearest(diagnostic: Diagnostic, span: Span, reading: Reading) -> Iterator[Fix]:
    hint = diagnostic.hint or ""
    if hint.startswith("did you mean "):
        for name in _quoted(hint.partition("?")[0]):
            yield Fix(f"change to `{name}`", span, name)


def _first_line(diagnostic: Diagnostic, span: Span, reading: Reading) -> Iterator[Fix]:
    if diagnostic.code == "E020" and (diagnostic.hint or "").startswith("write `bcg"):
        yield Fix(
            "add the language version", Span(reading.file, 1, 1, 1, 1), f"{_quoted(diagnostic.hint or '')[0]}\n\n"
        )


def _missing(diagnostic: Diagnostic, span: Span, reading: Reading) -> Iterator[Fix]:
    """A required setting of a network, on a line after the brace that opens the network."""
    line = reading.source.lines[span.line - 1]
    written = _quoted(diagnostic.hint or "")
    if (
        diagnostic.code != "E034"
        or not written
        or "{" not in line[span.column - 1 :]
        or "no `" not in diagnostic.message
    ):
        return
    column = line.index("{", span.column - 1) + 2
    place = Span(reading.file, span.line, column, span.line, column)
    yield Fix(
        f"add `{written[0]}`", place, f"\n  {written[0]}" if line[column - 1 :].strip() == "" else f" {written[0]};"
    )


def _argument(diagnostic: Diagnostic, span: Span, reading: Reading) -> Iterator[Fix]:
    """An argument that has another name here: its name, or with a value the whole."""
    if diagnostic.code != "E042":
        return
    rest = reading.source.lines[span.line - 1][span.end_column - 1 :]
    value = re.match(r"\s*=\s*[^,()]*", rest)
    given = re.search(r"write `(\w+=[^`]+)`", diagnostic.hint or "")
    renamed = re.search(r"is `(\w+)` here", diagnostic.hint or "")
    if given is not None and value is not None:
        yield Fix(f"write `{given[1]}`", replace(span, end_column=span.end_column + value.end()), given[1])
    elif renamed is not None:
        yield Fix(f"change to `{renamed[1]}`", span, renamed[1])


def _time_constant(diagnostic: Diagnostic, span: Span, reading: Reading) -> Iterator[Fix]:
    found = re.search(r"time constant tau = \S+ is `tau=([^`]+)`", diagnostic.hint or "")
    if found is not None:
        yield Fix(f"convert the time constant: {found[1]}", span, found[1])


def _written(diagnostic: Diagnostic, span: Span, reading: Reading) -> Iterator[Fix]:
    """What stands behind `write`, where the span covers all that it replaces."""
    found = re.search(r"write `([^`]+)`", diagnostic.hint or "")
    if found is None or diagnostic.code not in ("E010", "E060", "E035", "E040"):
        return
    text = found[1]
    if diagnostic.code == "E010" and "cannot be a name" not in diagnostic.message and not text.startswith("{"):
        return
    if diagnostic.code in ("E035", "E040") and not re.fullmatch(r"\[\w+\]", text):
        return
    if diagnostic.code == "E060":
        text = text.partition(" ")[2]
    line = reading.source.lines[span.line - 1]
    if text.startswith("{") and line[: span.column - 1].rstrip().endswith(","):
        span = replace(span, column=len(line[: span.column - 1].rstrip()))
        text = f" {text}"
    yield Fix(f"write `{text.strip()}`", span, text)


RULES: tuple[_Rule, ...] = (_comment, _nearest, _first_line, _missing, _argument, _time_constant, _written)
"""How hints become changes, the first that knows one first."""
