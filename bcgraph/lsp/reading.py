"""What is known of one text: its tree, its names, its findings, and the specification where there is one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bcgraph.dsl import syntax
from bcgraph.dsl.elaborate import elaborate
from bcgraph.dsl.elaboration.library import Files, Library, Namespace
from bcgraph.dsl.parser import parse_file
from bcgraph.dsl.source import Reporter, Source, Stop, check_text
from bcgraph.errors import Diagnostic, Span, SpecError
from bcgraph.lsp.network import Placed, placed
from bcgraph.schema import NetworkSpec

MAX_PARSED = 512
"""Trees of files that are kept."""


@dataclass(eq=False)
class Texts(Files):
    """Files as the editor has them: open ones from their buffers. A text is parsed once, until it changes."""

    open: dict[str, str] = field(default_factory=dict)
    _parsed: dict[tuple[str, str], syntax.File] = field(default_factory=dict)

    def read(self, path: Path, span: Span | None = None) -> str:
        """The text of a file, that of its buffer where it is open. Raises SpecError."""
        found = self.open.get(str(path))
        return super().read(path, span) if found is None else found

    def parse(self, source: Source, reporter: Reporter) -> syntax.File:
        """The syntax tree, kept by its text where nothing is wrong with it. Raises Stop."""
        key = (source.file, source.text)
        if key in self._parsed:
            reporter.sources.setdefault(source.file, source)
            return self._parsed[key]
        before = len(reporter)
        tree = super().parse(source, reporter)
        if len(reporter) == before:
            while len(self._parsed) >= MAX_PARSED:
                del self._parsed[next(iter(self._parsed))]
            self._parsed[key] = tree
        return tree


@dataclass(frozen=True, eq=False)
class Reading:
    """One text as it was read. `spec` is None where something is wrong, and `tree` where braces do not match."""

    source: Source
    files: Texts
    library: Library
    tree: syntax.File | None
    diagnostics: tuple[Diagnostic, ...] = ()
    spec: NetworkSpec | None = None
    layers: dict[int, dict[str, syntax.Assign]] = field(default_factory=dict)
    """Of the blocks that were looked into, by their identity, the layers by name."""

    @property
    def file(self) -> str:
        """The path of the text."""
        return self.source.file

    @property
    def namespace(self) -> Namespace:
        """The definitions that the text sees under their names."""
        return self.library.own

    @cached_property
    def understood(self) -> Reading:
        """This reading, or where something is wrong one of the text without the lines that are at fault."""
        if self.spec is not None:
            return self
        wrong = {d.span.line for d in self.diagnostics if d.span is not None and d.span.file == self.file}
        lines = [_without(line) if n in wrong else line for n, line in enumerate(self.source.lines, start=1)]
        other = read("\n".join(lines), self.file, self.files)
        return other if other.spec is not None else self

    @cached_property
    def placed(self) -> Mapping[Span, Sequence[Placed]]:
        """The layers of the network by the place of the call that made them."""
        spec = self.understood.spec
        return {} if spec is None else placed(spec)

    @cached_property
    def by_name(self) -> Mapping[str, int]:
        """The numbers of the ports by their names, as far as they are known."""
        spec = self.understood.spec
        return {} if spec is None else {name: number for number, name in enumerate(spec.ports)}


def _without(line: str) -> str:
    """A line without its statement; braces stay, so that what they enclose does."""
    return "".join(char if char in "{}" else " " for char in line.partition("#")[0])


def read(text: str, file: str, files: Texts) -> Reading:
    """The text of a file, read in full: its diagnostics are those of `bcgraph check`."""
    try:
        check_text(text, file)
    except SpecError as error:
        source = Source.of("", file)
        return Reading(source, files, Library(Reporter(), files), None, error.diagnostics)
    source = Source.of(text, file)
    reporter = Reporter({file: source})
    library = Library(reporter, files)
    tree, spec = None, None
    path = Path(file)
    with contextlib.suppress(Stop):
        tree = parse_file(source, reporter)
        spec = elaborate(tree, file, reporter, path, path.parent, library)
    return Reading(source, files, library, tree, reporter.diagnostics(), spec)


def scan(text: str, file: str, files: Texts) -> Reading:
    """The text of a file with its names alone: nothing is expanded, and nothing said about mistakes."""
    source = Source.of(text, file)
    reporter = Reporter({file: source})
    library = Library(reporter, files)
    tree = None
    with contextlib.suppress(Stop, SpecError):
        check_text(text, file)
        tree = files.parse(source, reporter)
        library.of_text(tree, Path(file), Path(file).parent)
    return Reading(source, files, library, tree)
