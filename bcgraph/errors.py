"""Diagnostics: what went wrong, where, and what would be right.

Every mistake a user can make ends in a `BcgraphError` that carries one or more `Diagnostic` values; each has
a code from `CODES`, a message, the span it is about, and a hint where there is one. They are rendered in one
place, `render`. A bug of ours is any other exception, and is never caught on the user's behalf.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any


class BcgraphWarning(UserWarning):
    """Something a user should know about that does not stop the work."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a source text. Lines and columns count from 1; the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


# One line per code: what the code stands for. `docs/errors.md` is generated from this table.
CODES: dict[str, str] = {
    # The text itself.
    "E001": "the file cannot be read",
    "E002": "the text is too large",
    "E003": "the text is not valid UTF-8 or holds a NUL byte",
    "E004": "blocks, lists or expressions are nested too deeply",
    "E005": "a number or a string literal is malformed or out of range",
    "E010": "a character or word does not fit the grammar here",
    "E011": "the text ends too early",
    # Names and structure.
    "E020": "the language version is missing or not supported",
    "E021": "a file needs exactly one network",
    "E022": "an import cannot be resolved",
    "E023": "imports form a cycle",
    "E024": "a plugin is not installed or cannot be loaded",
    "E025": "a name comes from a plugin that the file does not use",
    "E030": "an unknown name",
    "E031": "an unknown layer, block or backbone",
    "E032": "an unknown setting",
    "E033": "a name is defined twice",
    "E034": "a required setting is missing",
    "E035": "a section or statement does not belong here",
    "E036": "a name is taken",
    # Values.
    "E040": "a value has the wrong type",
    "E041": "a value is out of range",
    "E042": "an argument is unknown, missing or given twice",
    "E043": "a value is not one of the allowed words",
    "E044": "an expression cannot be evaluated",
    # The network that a text describes.
    "E050": "a layer does not fit the shape that reaches it",
    "E051": "branches of a sum or a concatenation do not fit together",
    "E052": "the network does not end in one value per class",
    "E053": "a network needs at least one layer of neurons",
    "E054": "the network would be too large",
    "E055": "blocks call each other without end",
    "E056": "a registered layer is not what it declares",
    # Connections.
    "E060": "an unknown port",
    "E061": "`backward` or `forward` does not fit the order of the ports",
    "E062": "a connection is given twice",
    "E063": "a delay is out of range",
    "E064": "a projection does not fit its connection",
    "E065": "a neuron has no such value to read",
    "E066": "the search space cannot be met",
    "E067": "an objective or a bound of a search cannot be met",
    # The temporal graph and what is compiled from it.
    "E070": "a cycle of delay zero",
    "E071": "a port cannot be reached",
    "E072": "an unknown schedule, pass or target",
    "E073": "a target cannot express the network",
    "E074": "a backend or a device cannot run the network",
    "E075": "an exported file does not compute what its source computes",
    # Data, weights, runs.
    "E080": "an unknown data set",
    "E081": "a data set is missing, damaged or does not fit the network",
    "E082": "a weights file is missing or damaged",
    "E083": "weights do not fit the network",
    "E084": "a file cannot be written",
    "E085": "a run directory belongs to something else",
    "E086": "a run directory is in use",
    "E087": "a model file is missing, damaged or foreign",
    "E088": "training failed",
    "E089": "a search setting cannot be met",
    "E090": "an input has the wrong shape or type",
    "E091": "a storage cannot be reached",
    "E092": "an optional package is not installed",
    "E093": "workers could not be started, or are lost",
    "E094": "memory has run out",
    "E095": "a registered part has failed",
    "E096": "a page cannot be served",
    "E097": "the system refuses what a command needs",
    # Modules from elsewhere.
    "E110": "a module does not run on its example, or returns something else than one value per class",
    "E111": "the values of a tensor decide what a module computes",
    "E112": "a module changes a view or a part of a tensor in place",
    "E113": "the language cannot express a layer, function or neuron of a module",
    "E114": "a value of a module is read across branches",
    "E115": "an imported network does not compute what its module computes",
}


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding about a user's input.

    `excerpt` is the source line under the span; `notes` are further lines of explanation.
    """

    code: str
    message: str
    span: Span | None = None
    hint: str | None = None
    excerpt: str | None = None
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"diagnostic code {self.code} is not in the table")

    def as_data(self) -> dict[str, Any]:
        """The finding as plain data, for `--json`."""
        place: dict[str, Any] = {}
        if self.span is not None:
            place = {
                "file": self.span.file,
                "line": self.span.line,
                "column": self.span.column,
                "end_line": self.span.end_line,
                "end_column": self.span.end_column,
            }
        return {
            "code": self.code,
            "message": self.message,
            **place,
            "hint": self.hint,
            "excerpt": self.excerpt,
            "notes": list(self.notes),
        }


class BcgraphError(Exception):
    """A user's mistake, as one or more diagnostics.

    The constructor takes the parts of a single diagnostic; `of` takes several finished ones. The command line
    prints the diagnostics and ends with exit code 1.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        span: Span | None = None,
        hint: str | None = None,
        excerpt: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (Diagnostic(code, message, span, hint, excerpt, tuple(notes)),)
        super().__init__(message)

    @classmethod
    def of(cls, diagnostics: Iterable[Diagnostic]) -> BcgraphError:
        """An error that carries several diagnostics. Raises ValueError when there is none."""
        found = tuple(diagnostics)
        if not found:
            raise ValueError("an error needs at least one diagnostic")
        error = cls.__new__(cls)
        error.diagnostics = found
        Exception.__init__(error, found[0].message)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        # An error may come from another process, and exceptions are made anew from their message alone.
        return type(self).of, (self.diagnostics,)

    @property
    def code(self) -> str:
        """The code of the first diagnostic."""
        return self.diagnostics[0].code

    @property
    def span(self) -> Span | None:
        """The span of the first diagnostic."""
        return self.diagnostics[0].span

    @property
    def hint(self) -> str | None:
        """The hint of the first diagnostic."""
        return self.diagnostics[0].hint

    def __str__(self) -> str:
        return "\n".join(render(d) for d in self.diagnostics)


class SpecError(BcgraphError):
    """The text or the values of a specification are at fault."""


class CompileError(BcgraphError):
    """A specification cannot be lowered, scheduled or sent to a target as asked."""


class DataError(BcgraphError):
    """A data set is unknown, missing, damaged, or does not fit the network."""


class WeightsError(BcgraphError):
    """Weights or checkpoints are missing, damaged, or do not fit the network."""


class RunError(BcgraphError):
    """A run directory, a storage or an output file cannot be used."""


class SearchError(BcgraphError):
    """A search or a score was asked for something that cannot be done."""


def nearest(name: str, known: Iterable[str], *, limit: int = 1) -> str | None:
    """A hint that names the known names closest to `name`, or None when none is close."""
    matches = closest(name, known, limit=limit)
    return f"did you mean {' or '.join(f'`{m}`' for m in matches)}?" if matches else None


def closest(name: str, known: Iterable[str], *, limit: int = 1) -> list[str]:
    """The known names closest to `name`: of those alike, the ones that fewest typing errors lead to."""
    alike = get_close_matches(name, _some(name, list(known)), n=max(limit, _ALIKE), cutoff=0.6)
    return sorted(alike, key=lambda other: typing_errors(name, other))[:limit]


# Names that are compared, those of them that are compared letter by letter, and how many letters.
_MANY = 400
_ALIKE = 8
_MAX_LETTERS = 60


def _some(name: str, known: list[str]) -> list[str]:
    """Of many known names those that begin or end as `name` does, which are found without comparing all of them."""
    if len(known) <= _MANY:
        return known
    found: dict[str, None] = {}
    for backwards in (1, -1):
        ordered = sorted(other[::backwards] for other in known)
        place = bisect_left(ordered, name[::backwards])
        near = ordered[max(0, place - _MANY // 4) : place + _MANY // 4]
        found |= dict.fromkeys(other[::backwards] for other in near)
    return list(found)


def typing_errors(first: str, second: str) -> int:
    """How many letters have to be put in, left out, replaced, or swapped with their neighbor, to make one of another.

    The optimal string alignment distance, of the first 60 letters.
    """
    a, b = first[:_MAX_LETTERS], second[:_MAX_LETTERS]
    rows = [list(range(len(b) + 1))]
    for i in range(1, len(a) + 1):
        row = [i]
        for j in range(1, len(b) + 1):
            found = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                found = min(found, rows[i - 2][j - 2] + 1)
            row.append(found)
        rows.append(row)
    return rows[-1][-1]


def render(diagnostic: Diagnostic) -> str:
    """The text of one diagnostic: place, code, message, source line with carets, notes, hint."""
    span = diagnostic.span
    place = f"{span}: " if span is not None else ""
    lines = [f"{place}error[{diagnostic.code}]: {diagnostic.message}"]
    if span is not None and diagnostic.excerpt is not None:
        shown, start, width = _window(diagnostic.excerpt, span)
        gutter = f"{span.line:>5} | "
        lines.append(gutter + shown)
        lines.append(" " * (len(gutter) - 2) + "| " + " " * start + "^" * width)
    lines.extend(f"  note: {note}" for note in diagnostic.notes)
    if diagnostic.hint is not None:
        lines.append(f"  hint: {diagnostic.hint}")
    return "\n".join(lines)


def _window(excerpt: str, span: Span, limit: int = 160) -> tuple[str, int, int]:
    """The part of a source line to show, and where the carets stand under it."""
    text = "".join(" " if c == "\t" else c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in excerpt)
    start = min(max(span.column - 1, 0), len(text))
    end = span.end_column - 1 if span.end_line == span.line else len(text)
    width = max(1, min(end, len(text)) - start)
    if len(text) > limit:
        left = max(0, min(start - limit // 4, len(text) - limit))
        text = text[left : left + limit]
        start -= left
        width = max(1, min(width, limit - start))
    return text, start, width


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and each error that it was raised because of or while it was handled, once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]
