"""What the server knows of the editor: its open texts, each read when it is asked about, and the files beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.workspace import PositionCodec

from bcgraph.dsl import source
from bcgraph.dsl.source import MAX_BYTES, Source
from bcgraph.errors import Span, SpecError
from bcgraph.lsp.occurrences import Occurrence, occurrences
from bcgraph.lsp.positions import holds, path_of, place_of, range_of, uri_of
from bcgraph.lsp.reading import Reading, Texts, read, scan

MAX_FILES = 500
"""Files of a workspace that are searched for uses of a name."""


@dataclass(eq=False)
class Session:
    """The open texts. What was read of one is kept until any of them changes: it may import another."""

    server: LanguageServer
    texts: Texts = field(default_factory=Texts)
    _read: dict[str, Reading] = field(default_factory=dict)
    _good: dict[str, Reading] = field(default_factory=dict)

    @property
    def codec(self) -> PositionCodec:
        """How the editor counts characters."""
        return self.server.workspace.position_codec

    def change(self, uri: str) -> None:
        """Take over the text of a document that was opened or changed."""
        self.texts.open[path_of(uri)] = self.server.workspace.get_text_document(uri).source
        self._read.clear()

    def close(self, uri: str) -> None:
        """Forget the buffer of a document."""
        self.texts.open.pop(path_of(uri), None)
        self._good.pop(path_of(uri), None)
        self._read.clear()

    def saved(self, uri: str) -> bool:
        """Whether the buffer of a document is what its file holds."""
        try:
            return source.read(path_of(uri)) == self.texts.open.get(path_of(uri))
        except SpecError:
            return False

    def reading(self, uri: str) -> Reading:
        """What is known of a document. One that is not open is read from the disk; one that is not there is empty."""
        file = path_of(uri)
        if file not in self._read:
            try:
                text = self.texts.read(Path(file))
            except SpecError:
                text = ""
            self._read[file] = read(text, file, self.texts)
            if self._read[file].spec is not None:
                self._good[file] = self._read[file]
        return self._read[file]

    def meant(self, uri: str) -> Reading:
        """The last reading of a document that made a specification, or the present one."""
        found = self.reading(uri).understood
        return found if found.spec is not None else self._good.get(path_of(uri), found)

    def at(self, uri: str, position: types.Position) -> tuple[Reading, Occurrence | None]:
        """The reading of a document, and the name at a position."""
        reading = self.reading(uri)
        line, column = place_of(position, reading.source.lines, self.codec)
        named = occurrences(reading.tree) if reading.tree is not None else ()
        return reading, next((o for o in named if holds(o.span, line, column)), None)

    def range(self, span: Span) -> types.Range:
        """The range of a span, in whichever file it is."""
        return range_of(span, self.lines(span.file), self.codec)

    def location(self, span: Span) -> types.Location:
        """The location of a span."""
        return types.Location(uri_of(span.file), self.range(span))

    def lines(self, file: str) -> tuple[str, ...]:
        """The lines of a file; none where it cannot be read."""
        known = self._read.get(file)
        if known is not None:
            return known.source.lines
        try:
            return Source.of(self.texts.read(Path(file)), file).lines
        except SpecError:
            return ()

    def beside(self, reading: Reading) -> Iterator[Reading]:
        """A text, and all other texts of the workspace that may use its names or define them."""
        yield reading
        seen = {reading.file}
        for path in self._paths():
            if str(path) in seen:
                continue
            seen.add(str(path))
            try:
                yield scan(self.texts.read(path), str(path), self.texts)
            except SpecError:
                continue

    def _paths(self) -> Iterator[Path]:
        yield from (Path(file) for file in self.texts.open)
        found = 0
        for folder in self.server.workspace.folders.values():
            for path in Path(path_of(folder.uri)).rglob("*.bcg"):
                if path.is_file() and path.stat().st_size <= MAX_BYTES:
                    found += 1
                    yield path
                if found >= MAX_FILES:
                    return
