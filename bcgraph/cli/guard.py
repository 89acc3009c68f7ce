"""How a command ends: one place turns exceptions into messages and exit codes.

A user's mistake is a `BcgraphError`: its diagnostics go to standard error (with `--json` to standard output, as data)
and the exit code is 1. So is memory that has run out. Ctrl-C ends with 130 and the line that resumes. Any other
exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec

import typer

from bcgraph.cli.output import emit_json, say
from bcgraph.errors import BcgraphError, BcgraphWarning, Diagnostic, render
from bcgraph.memory import FAILURES as MEMORY_FAILURES
from bcgraph.memory import exhausted, ran_out
from bcgraph.urls import without_password

P = ParamSpec("P")

FAULT = 1
INTERRUPTED = 130

# Commands that keep what they have done: called again with the same arguments, they go on from there.
RESUMABLE = frozenset({"search", "train"})


def prepare_streams() -> None:
    """Let any text through to any terminal, also where it cannot show every character."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """`function` as a command: its errors end it as the module text says."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", BcgraphWarning)
                warnings.showwarning = _note(warnings.showwarning)
                function(*args, **kwargs)
        except BcgraphError as error:
            report(error.diagnostics, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(FAULT) from None
        except BrokenPipeError:
            # The reader of a pipe has seen enough. Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except MEMORY_FAILURES as error:
            if not ran_out(error):
                raise
            report(exhausted(error).diagnostics, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(FAULT) from None
        except KeyboardInterrupt:
            say(_interrupted(sys.argv[1:]))
            raise typer.Exit(INTERRUPTED) from None

    return command


def report(diagnostics: tuple[Diagnostic, ...], *, as_json: bool) -> None:
    """Print diagnostics, for people on standard error or as data on standard output."""
    if as_json:
        emit_json({"diagnostics": [d.as_data() for d in diagnostics]})
        return
    for diagnostic in diagnostics:
        say(render(diagnostic))


def _note(otherwise: Callable[..., None]) -> Callable[..., None]:
    """Shows our own warnings as notes, and hands others on."""

    def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, BcgraphWarning):
            say(f"note: {message}")
        else:
            otherwise(message, category, *rest)

    return show


def _interrupted(arguments: list[str]) -> str:
    line = shlex.join(["bcgraph", *map(without_password, arguments)])
    verb = "resume" if arguments and arguments[0] in RESUMABLE else "start again"
    return f"interrupted; {verb} with: {line}"
