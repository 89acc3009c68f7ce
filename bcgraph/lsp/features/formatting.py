"""Formatting: `bcgraph fmt` on the buffer."""

from __future__ import annotations

from itertools import takewhile

from lsprotocol import types

from bcgraph.dsl.fmt import format_text
from bcgraph.errors import Span, SpecError
from bcgraph.lsp.session import Session


def formatted(session: Session, params: types.DocumentFormattingParams) -> list[types.TextEdit]:
    """What changes, as one edit; none where the text does not parse."""
    reading = session.reading(params.text_document.uri)
    try:
        new = format_text(reading.source.text, reading.file)
    except SpecError:
        return []
    old = reading.source.text
    if old == new:
        return []
    start = _common(old, new)
    end = min(_common(old[::-1], new[::-1]), min(len(old), len(new)) - start)
    place = Span(reading.file, *_place(old, start), *_place(old, len(old) - end))
    return [types.TextEdit(session.range(place), new[start : len(new) - end])]


def _common(a: str, b: str) -> int:
    """How many characters two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _place(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, from 1."""
    before = text[:offset]
    return before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
