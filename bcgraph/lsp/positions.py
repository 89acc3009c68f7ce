"""Between spans, which count characters from 1, and the ranges of the protocol, which count UTF-16 units from 0."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lsprotocol import types
from pygls import uris
from pygls.workspace import PositionCodec

from bcgraph.errors import Span

# Of two letters at least: one is a drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def range_of(span: Span, lines: Sequence[str], codec: PositionCodec) -> types.Range:
    """The range of a span in a text of these lines."""
    if not lines:
        return types.Range(types.Position(0, 0), types.Position(0, 0))
    start = _position(span.line, span.column, lines, codec)
    return types.Range(start, _position(span.end_line, span.end_column, lines, codec))


def _position(line: int, column: int, lines: Sequence[str], codec: PositionCodec) -> types.Position:
    number = min(line, len(lines)) - 1
    return types.Position(number, _units(lines[number][: column - 1], codec))


def _units(text: str, codec: PositionCodec) -> int:
    """The length of a text as the editor counts it: at once, since a long line holds many tokens."""
    if text.isascii() or codec.encoding == types.PositionEncodingKind.Utf32:
        return len(text)
    if codec.encoding == types.PositionEncodingKind.Utf8:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def place_of(position: types.Position, lines: Sequence[str], codec: PositionCodec) -> tuple[int, int]:
    """Line and column, from 1, of a position in a text of these lines."""
    if not lines:
        return 1, 1
    if position.line >= len(lines):
        return len(lines), len(lines[-1]) + 1
    return position.line + 1, character(lines[position.line], position.character, codec) + 1


def character(line: str, units: int, codec: PositionCodec) -> int:
    """The character of a line that so many units lead to, counted from 0; its end where it has fewer."""
    if line.isascii():
        return min(units, len(line))
    for place, each in enumerate(line):
        if units <= 0:
            return place
        units -= _units(each, codec)
    return len(line)


def holds(span: Span, line: int, column: int) -> bool:
    """Whether a place is in a span, or right behind it."""
    return (span.line, span.column) <= (line, column) <= (span.end_line, span.end_column)


def uri_of(file: str) -> str:
    """The URI of a file; of a text that was never saved, what stands for its path."""
    if _SCHEME.match(file):
        return file
    return uris.from_fs_path(str(Path(file).absolute())) or file


def path_of(uri: str) -> str:
    """The path of a URI; the URI itself where it names no file, as that of a text that was never saved."""
    return uris.to_fs_path(uri) or uri
