"""Inlay hints: shapes and port numbers behind layers, numbers behind names of ports and names behind numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lsprotocol import types

from bcgraph.dsl import syntax
from bcgraph.errors import Span
from bcgraph.lsp.network import Placed
from bcgraph.lsp.occurrences import Occurrence, occurrences
from bcgraph.lsp.reading import Reading
from bcgraph.lsp.session import Session
from bcgraph.shapes import text

MAX_SHOWN = 3
"""Different shapes or ports of one line that are shown."""


def hints(session: Session, params: types.InlayHintParams) -> list[types.InlayHint]:
    """The hints of the lines in a range."""
    reading = session.reading(params.text_document.uri)
    first, last = params.range.start.line + 1, params.range.end.line + 1
    found = []
    for span, label in _labels(reading):
        if first <= span.line <= last:
            place = session.range(span).end
            found.append(types.InlayHint(place, label, kind=types.InlayHintKind.Type, padding_left=True))
    return found


def _labels(reading: Reading) -> Iterator[tuple[Span, str]]:
    for each in occurrences(reading.tree) if reading.tree is not None else ():
        if each.kind == "layer" and isinstance(each.value, syntax.Call):
            many = reading.placed.get(each.value.span, ())
            if many:
                yield each.value.span, _of_layer(many)
        elif each.port is not None and (label := _of_port(each, reading)) is not None:
            yield each.span, label


def _of_layer(many: Sequence[Placed]) -> str:
    shapes = _few([text(one.shape) for one in many])
    ports = _few([f"@{one.port}" for one in many if one.port is not None])
    return f"{shapes}  {ports}" if ports else shapes


def _few(words: Sequence[str]) -> str:
    different = list(dict.fromkeys(words))
    return ", ".join(different[:MAX_SHOWN]) + (", ..." if len(different) > MAX_SHOWN else "")


def _of_port(each: Occurrence, reading: Reading) -> str | None:
    spec = reading.understood.spec
    if spec is None or each.port is None:
        return None
    if each.port.number is not None:
        return spec.ports[each.port.number] if each.port.number < len(spec.ports) else None
    number = reading.by_name.get(each.name)
    return None if number is None else f"@{number}"
