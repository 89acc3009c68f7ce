"""Diagnostics: what `bcgraph check` says, with the same codes, spans and hints.

A file of definitions alone, which others import, is no mistake in an editor, though it describes no network to check.
"""

from __future__ import annotations

from lsprotocol import types

from bcgraph.dsl import syntax
from bcgraph.errors import Diagnostic, Span
from bcgraph.lsp.occurrences import occurrences
from bcgraph.lsp.reading import Reading
from bcgraph.lsp.session import Session

SOURCE = "bcgraph"


def published(session: Session, uri: str) -> types.PublishDiagnosticsParams:
    """The diagnostics of a document as the protocol has them."""
    reading = session.reading(uri)
    version = session.server.workspace.get_text_document(uri).version
    found = [_shown(d, reading, session) for d in reading.diagnostics if not (d.code == "E021" and _defines(reading))]
    return types.PublishDiagnosticsParams(uri, found, version)


def _defines(reading: Reading) -> bool:
    """Whether a text is one to import: definitions alone, which `bcgraph check` asks for a network."""
    kinds = {type(statement) for statement in reading.tree.statements} if reading.tree is not None else set()
    own = {syntax.Block, syntax.Definition}
    return bool(kinds & own) and kinds <= own | {syntax.Header, syntax.Import, syntax.Use}


def text_of(diagnostic: Diagnostic) -> str:
    """Message, notes and hint of a diagnostic."""
    lines = [diagnostic.message, *(f"note: {note}" for note in diagnostic.notes)]
    return "\n".join([*lines, f"hint: {diagnostic.hint}"] if diagnostic.hint is not None else lines)


def _shown(diagnostic: Diagnostic, reading: Reading, session: Session) -> types.Diagnostic:
    span = diagnostic.span
    message, related = text_of(diagnostic), None
    if span is not None and span.file != reading.file:
        # A mistake in an imported file is shown where the file is imported.
        related = [types.DiagnosticRelatedInformation(session.location(span), diagnostic.message)]
        message = f"{span}: {message}"
    place = span if span is not None and span.file == reading.file else _import(reading)
    return types.Diagnostic(
        range=session.range(place),
        message=message,
        severity=types.DiagnosticSeverity.Error,
        code=diagnostic.code,
        source=SOURCE,
        related_information=related,
        data={"hint": diagnostic.hint},
    )


def _import(reading: Reading) -> Span:
    """Where the first import stands, or the first character."""
    named = occurrences(reading.tree) if reading.tree is not None else ()
    first = Span(reading.file, 1, 1, 1, 2)
    return next((each.span for each in named if each.kind == "import"), first)
