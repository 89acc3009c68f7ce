"""Definition, references, highlights and rename, across imports and into the standard library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams

from bcgraph.dsl.elaboration.layers import LAYERS
from bcgraph.dsl.elaboration.library import FOLDERS, NEURON, standard_folder
from bcgraph.dsl.tokens import MAX_NAME
from bcgraph.dsl.wording import KEYWORDS
from bcgraph.errors import Span
from bcgraph.lsp.positions import holds, place_of, uri_of
from bcgraph.lsp.reading import Reading
from bcgraph.lsp.session import Session
from bcgraph.lsp.symbols import Use, uses, uses_of


def definition(session: Session, params: types.DefinitionParams) -> types.Location | None:
    """Where the name at a position gets its meaning."""
    found = _use(session, params)
    return None if found is None else session.location(found.symbol)


def references(session: Session, params: types.ReferenceParams) -> list[types.Location]:
    """Every place of the workspace that means the same."""
    found = _use(session, params)
    if found is None:
        return []
    declared = params.context.include_declaration
    return [
        session.location(u.span) for u in _all(session, params.text_document.uri, found) if declared or not u.defines
    ]


def highlights(session: Session, params: types.DocumentHighlightParams) -> list[types.DocumentHighlight]:
    """The same within the document."""
    found = _use(session, params)
    reading = session.reading(params.text_document.uri)
    kinds = {True: types.DocumentHighlightKind.Write, False: types.DocumentHighlightKind.Read}
    return [
        types.DocumentHighlight(session.range(use.span), kinds[use.defines])
        for use in uses(reading)
        if found is not None and use.symbol == found.symbol
    ]


def prepare(session: Session, params: types.PrepareRenameParams) -> types.Range | None:
    """What a rename at a position would replace; None where nothing can be renamed."""
    found = _use(session, params)
    return None if found is None or not _renamable(found) else session.range(found.span)


def rename(session: Session, params: types.RenameParams) -> types.WorkspaceEdit:
    """The change of a name wherever it means the same. Raises JsonRpcInvalidParams for what cannot be a name."""
    found, name = _use(session, params), params.new_name
    if found is None or not _renamable(found):
        raise JsonRpcInvalidParams("there is no name here that can be changed")
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None or len(name) > MAX_NAME:
        raise JsonRpcInvalidParams(f"`{name}` cannot be a name: it has letters, digits and `_`, no digit first")
    if name in KEYWORDS or name in LAYERS or name in (NEURON, "range"):
        raise JsonRpcInvalidParams(f"`{name}` is a word of the language and cannot be a name")
    changes: dict[str, list[types.TextEdit]] = {}
    for use in _all(session, params.text_document.uri, found):
        if use.written:
            changes.setdefault(uri_of(use.span.file), []).append(types.TextEdit(session.range(use.span), name))
    return types.WorkspaceEdit(changes=changes)


class _Placed(Protocol):
    """What every request about a position has."""

    text_document: types.TextDocumentIdentifier
    position: types.Position


def _use(session: Session, params: _Placed) -> Use | None:
    """What the name at a position means."""
    reading, each = session.at(params.text_document.uri, params.position)
    if each is None:
        return None
    line, column = place_of(params.position, reading.source.lines, session.codec)
    return next((use for use in uses_of(each, reading) if holds(use.span, line, column)), None)


def _renamable(use: Use) -> bool:
    """Whether a name may be changed: it is written, and its definition is no part of the standard library."""
    return use.written and not any(use.symbol.file.startswith(str(standard_folder(kind))) for kind in FOLDERS)


def _all(session: Session, uri: str, found: Use) -> Iterator[Use]:
    seen: set[Span] = set()
    for reading in _texts(session, uri):
        for use in uses(reading):
            if use.symbol == found.symbol and use.span not in seen:
                seen.add(use.span)
                yield use


def _texts(session: Session, uri: str) -> Iterator[Reading]:
    yield from session.beside(session.reading(uri))
