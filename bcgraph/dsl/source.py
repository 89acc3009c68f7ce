"""Reading texts within bounds, and collecting what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import IO, NoReturn

from bcgraph import foreign
from bcgraph.errors import BcgraphError, Diagnostic, Span, SpecError

MAX_BYTES = 1024 * 1024
MAX_DIAGNOSTICS = 50
_MAX_EXCERPT = 4096
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Source:
    """A text with the name under which diagnostics mention it."""

    file: str
    text: str
    lines: tuple[str, ...]

    @staticmethod
    def of(text: str, file: str) -> Source:
        """A source whose lines end at line feeds, with or without a carriage return before them."""
        text = text.removeprefix(_MARK)
        return Source(file, text, tuple(line.removesuffix("\r") for line in text.split("\n")))

    def excerpt(self, line: int) -> str | None:
        """The text of a line, or None where there is none or it is too long to show."""
        if not 1 <= line <= len(self.lines) or len(self.lines[line - 1]) > _MAX_EXCERPT:
            return None
        return self.lines[line - 1]


class Stop(Exception):  # noqa: N818 - it is no error, it says that one was reported
    """Work cannot go on; the reporter holds the reason. Never leaves the package."""


@dataclass(slots=True)
class Reporter:
    """Collects diagnostics of one run: each finding once, in the order of the text, up to a limit."""

    sources: dict[str, Source] = field(default_factory=dict)
    _found: dict[tuple[str, str, Span | None], Diagnostic] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(
        self, code: str, message: str, span: Span | None, hint: str | None = None, notes: Sequence[str] = ()
    ) -> None:
        """Report one finding. Raises Stop when there are too many."""
        key = (code, message, span)
        if key in self._found:
            return
        source = self.sources.get(span.file) if span is not None else None
        excerpt = source.excerpt(span.line) if source is not None and span is not None else None
        self._found[key] = Diagnostic(code, message, span, hint, excerpt, tuple(notes))
        if len(self._found) >= MAX_DIAGNOSTICS:
            raise Stop

    def stop(
        self, code: str, message: str, span: Span | None, hint: str | None = None, notes: Sequence[str] = ()
    ) -> NoReturn:
        """Report one finding and stop."""
        self.add(code, message, span, hint, notes)
        raise Stop

    def add_error(self, error: BcgraphError, span: Span | None = None, notes: Sequence[str] = ()) -> None:
        """Report the findings of an error raised elsewhere; `span` is for those without one."""
        for d in error.diagnostics:
            self.add(d.code, d.message, d.span or span, d.hint, (*d.notes, *notes))

    def has(self, codes: frozenset[str]) -> bool:
        """Whether a finding has one of these codes."""
        return any(d.code in codes for d in self._found.values())

    def drop(self, codes: frozenset[str]) -> None:
        """Forget the findings with these codes."""
        self._found = {key: d for key, d in self._found.items() if d.code not in codes}

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The findings: file by file as they were first met, then by place."""
        files = {file: number for number, file in enumerate(self.sources)}

        def place(d: Diagnostic) -> tuple[int, int, int]:
            if d.span is None:
                return (len(files), 0, 0)
            return (files.get(d.span.file, len(files)), d.span.line, d.span.column)

        found = sorted(self._found.values(), key=place)
        if len(found) >= MAX_DIAGNOSTICS:
            found[-1] = replace(found[-1], notes=(*found[-1].notes, f"only the first {MAX_DIAGNOSTICS} are shown"))
        return tuple(found)

    def check(self) -> None:
        """Raise SpecError with everything found, if anything was."""
        if self._found:
            raise SpecError.of(self.diagnostics())


def read(path: str | os.PathLike[str], file: str | None = None, span: Span | None = None) -> str:
    """The text of a regular file, at most MAX_BYTES of it ever in memory.

    Raises SpecError E001 (unreadable), E002 (too large) or E003 (not UTF-8). `span` is where the text that asks for
    the file stands: then nothing of the file is shown, for it may be any file.
    """
    name = file or os.fspath(path)
    try:
        content = foreign.read(path, MAX_BYTES, streams=span is None)
    except foreign.TooLargeError:
        content = bytes(MAX_BYTES + 1)
    except (OSError, ValueError) as problem:
        raise _unreadable(name, problem, span) from None
    return _text(content, name, span)


def read_stream(stream: IO[bytes], name: str) -> str:
    """The text of an open stream. Raises SpecError as `read` does."""
    try:
        content = stream.read(MAX_BYTES + 1)
    except OSError as problem:
        raise _unreadable(name, problem, None) from None
    return _text(content, name, None)


def _unreadable(name: str, problem: Exception, span: Span | None) -> SpecError:
    reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    return SpecError("E001", f"cannot read {_shown(name)}: {reason}", span=span)


def _text(content: bytes, name: str, span: Span | None) -> str:
    if len(content) > MAX_BYTES:
        raise SpecError("E002", f"{_shown(name)} is larger than 1 MiB", span=span or Span(name, 1, 1, 1, 1))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        before = content[: problem.start].decode("utf-8-sig", "replace")
        line, column = _end_of(before)
        bad = f"byte 0x{content[problem.start]:02x}"
        hint = "save the file as UTF-8"
        if span is not None:
            raise SpecError("E003", f"{_shown(name)}, line {line}: {bad} is not UTF-8", span=span, hint=hint) from None
        place = Span(name, line, column, line, column + 1)
        shown = content.decode("utf-8-sig", "replace").split("\n")[line - 1]
        excerpt = shown if len(shown) <= _MAX_EXCERPT else None
        raise SpecError("E003", f"{bad} is not UTF-8", span=place, hint=hint, excerpt=excerpt) from None


def check_text(text: str, file: str) -> None:
    """Raise SpecError E002 when a text is too large, E003 when it holds a NUL or cannot be UTF-8."""
    if len(text) > MAX_BYTES:
        raise SpecError("E002", "the text is larger than 1 MiB", span=Span(file, 1, 1, 1, 1))
    position = text.find("\0")
    what = "a NUL byte"
    if position < 0:
        try:
            text.encode()
            return
        except UnicodeEncodeError as problem:
            position, what = problem.start, "a lone surrogate"
    line, column = _end_of(text[:position])
    excerpt = Source.of(text, file).excerpt(line)
    raise SpecError(
        "E003", f"{what} cannot stand in a text", span=Span(file, line, column, line, column + 1), excerpt=excerpt
    )


def _end_of(text: str) -> tuple[int, int]:
    """Line and column after a text."""
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)
