"""The server: a table of features, and texts that are read again when they change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from bcgraph.lsp.features import (
    completion,
    diagnostics,
    fixes,
    formatting,
    highlighting,
    hints,
    hover,
    navigation,
    outline,
)
from bcgraph.lsp.session import Session

PAUSE = 0.05
"""Seconds without a further change before a text is checked."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One request: what answers it, and the options under which the editor learns of it."""

    answer: Callable[[Session, Any], Any]
    options: Any = None


FEATURES: Mapping[str, Feature] = {
    types.TEXT_DOCUMENT_HOVER: Feature(hover.hover),
    types.TEXT_DOCUMENT_COMPLETION: Feature(
        completion.complete, types.CompletionOptions(trigger_characters=list(completion.TRIGGERS))
    ),
    types.TEXT_DOCUMENT_DEFINITION: Feature(navigation.definition),
    types.TEXT_DOCUMENT_REFERENCES: Feature(navigation.references),
    types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT: Feature(navigation.highlights),
    types.TEXT_DOCUMENT_PREPARE_RENAME: Feature(navigation.prepare),
    types.TEXT_DOCUMENT_RENAME: Feature(navigation.rename, types.RenameOptions(prepare_provider=True)),
    types.TEXT_DOCUMENT_FORMATTING: Feature(formatting.formatted),
    types.TEXT_DOCUMENT_CODE_ACTION: Feature(
        fixes.actions, types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix])
    ),
    types.TEXT_DOCUMENT_INLAY_HINT: Feature(hints.hints),
    types.TEXT_DOCUMENT_DOCUMENT_SYMBOL: Feature(outline.symbols),
    types.TEXT_DOCUMENT_FOLDING_RANGE: Feature(outline.folds),
    types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL: Feature(highlighting.tokens, highlighting.LEGEND),
}
"""What the server answers, by the name of the request."""


def build() -> LanguageServer:
    """The server, not yet connected."""
    # Editors send whole texts, which are small: pygls ends lines at more characters than they do.
    server = LanguageServer("bcgraph", version("bcgraph"), text_document_sync_kind=types.TextDocumentSyncKind.Full)
    session = Session(server)
    for name, feature in FEATURES.items():
        server.feature(name, feature.options)(_answering(session, feature))
    _follow(server, session)
    return server


def _answering(session: Session, feature: Feature) -> Callable[[Any], Any]:
    def answer(params: Any) -> Any:
        return feature.answer(session, params)

    return answer


def _follow(server: LanguageServer, session: Session) -> None:
    """Check texts when they are opened, changed and closed."""

    def publish(uri: str) -> None:
        server.text_document_publish_diagnostics(diagnostics.published(session, uri))

    def publish_others(uri: str) -> None:
        """What imports a text may have changed its meaning with it."""
        for other in list(server.workspace.text_documents):
            if other != uri:
                publish(other)

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        uri = params.text_document.uri
        session.change(uri)
        publish(uri)
        if not session.saved(uri):
            publish_others(uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(params: types.DidChangeTextDocumentParams) -> None:
        uri, number = params.text_document.uri, params.text_document.version
        session.change(uri)
        await asyncio.sleep(PAUSE)
        document = server.workspace.text_documents.get(uri)
        if document is None or document.version != number:
            return
        publish(uri)
        publish_others(uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        saved = session.saved(uri)
        session.close(uri)
        server.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))
        if not saved:
            publish_others(uri)


def serve() -> None:
    """Answer on standard input and output until the editor leaves."""
    # pygls closes its streams at the end; those of the process stay open for what else is to be printed.
    with os.fdopen(os.dup(0), "rb") as stdin, os.fdopen(os.dup(1), "wb") as stdout:
        build().start_io(stdin, stdout)
