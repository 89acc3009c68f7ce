"""How a command ends: one place turns exceptions into messages and exit codes.

A user's mistake is a `BcgraphError`: its diagnostics go to standard error (with `--json` to standard output, as data)
and the exit code is 1. So is what the machine refuses: memory, space on a disk, another open file, a path. Ctrl-C ends
with 130, SIGTERM with 143, SIGHUP with 129, each with the line that resumes. Any other exception is a bug of ours and
keeps its traceback.
"""

from __future__ import annotations

import functools
import logging
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TextIO

import typer

from bcgraph import interrupts
from bcgraph.cli.output import emit_json, say
from bcgraph.cli.streams import drop
from bcgraph.errors import BcgraphError, BcgraphWarning, Diagnostic, render
from bcgraph.interrupts import Signals, heeded
from bcgraph.machine import refusal
from bcgraph.memory import TorchLoader
from bcgraph.urls import shown, without_password

P = ParamSpec("P")

FAULT = 1
INTERRUPTED = 130

_ENDED: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""What is said of a signal; of any other, that the terminal is gone."""

# Commands that keep what they have done: called again with the same arguments, they resume.
RESUMABLE = frozenset({"search", "train"})

STORAGE = "--storage"


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """`function` as a command: its errors end it as the module text says."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        signals = Signals()
        with heeded(signals):
            try:
                with _noted(), _torch_fits():
                    _uninterrupted(function, *args, **kwargs)
            except BcgraphError as error:
                report(error.diagnostics, as_json=bool(kwargs.get("as_json")))
                raise typer.Exit(FAULT) from None
            except BrokenPipeError:
                # The reader of a pipe has seen enough. Python would complain once more when it flushes at exit.
                drop(sys.stdout)
            except Exception as error:
                refused = refusal(error)
                if refused is None:
                    raise
                report(refused.diagnostics, as_json=bool(kwargs.get("as_json")))
                raise typer.Exit(FAULT) from None
            except KeyboardInterrupt:
                say(_interrupted(sys.argv[1:], _ENDED.get(signals.number, "the terminal is gone")))
                raise typer.Exit(signals.code) from None

    return command


def _uninterrupted(function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call `function`. What a library makes of an interrupt is KeyboardInterrupt again."""
    try:
        function(*args, **kwargs)
    except Exception as error:
        interrupts.check(error)
        raise


def report(diagnostics: tuple[Diagnostic, ...], *, as_json: bool) -> None:
    """Print diagnostics, for people on standard error or as data on standard output."""
    if as_json:
        emit_json({"diagnostics": [d.as_data() for d in diagnostics]})
        return
    for diagnostic in diagnostics:
        say(render(diagnostic))


def _note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows a warning as a note: our own as it is, and one of a library in one line with its name."""
    if issubclass(category, BcgraphWarning):
        say(f"note: {message}")
    elif issubclass(category, UserWarning | RuntimeWarning):
        found, below = filename.replace("\\", "/").rpartition("-packages/")[1:]
        library = f"{below.partition('/')[0]}: " if found else ""
        say(f"note: {library}{_line(str(message))}")


class _Notes(logging.Handler):
    """Shows what libraries log as notes of one line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        say(f"note: {record.name.partition('.')[0]}: {_line(record.getMessage())}")


@contextmanager
def _noted() -> Iterator[None]:
    """Within, warnings and logs of libraries are notes on standard error, each once."""
    handler = _Notes(logging.WARNING)
    handler.addFilter(_Once())
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once", UserWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("always", BcgraphWarning)
            warnings.showwarning = _note
            yield
    finally:
        logging.getLogger().removeHandler(handler)


@contextmanager
def _torch_fits() -> Iterator[None]:
    """Within, torch is not loaded where it would abort for want of memory."""
    finder = TorchLoader()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def adopt(*libraries: str) -> None:
    """Have what these libraries log shown as notes, instead of as they print it themselves."""
    for library in libraries:
        logger = logging.getLogger(library)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        logger.propagate = True


class _Once:
    """Lets the first of equal messages through."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __call__(self, record: logging.LogRecord) -> bool:
        new = record.getMessage() not in self.seen
        self.seen.add(record.getMessage())
        return new


def _line(text: str) -> str:
    """The first line of a message, not too long."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first if len(first) <= 200 else first[:197] + "..."


def _interrupted(arguments: list[str], how: str) -> str:
    line = shlex.join(["bcgraph", *_safe(arguments)])
    verb = "resume" if arguments and arguments[0] in RESUMABLE else "start again"
    return f"{how}; {verb} with: {line}"


def _safe(arguments: list[str]) -> Iterator[str]:
    """The arguments without secrets; of a storage that is not understood, nothing is shown."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == STORAGE:
            yield shown(argument)
        elif argument.startswith(f"{STORAGE}="):
            yield f"{STORAGE}={shown(argument.removeprefix(f'{STORAGE}='))}"
        else:
            yield without_password(argument)
