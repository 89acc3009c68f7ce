"""The `bcgraph` command: finds the command that was asked for and runs it.

A command's module is imported only when it is called (or when all are listed), and imports what is heavy inside its
function, so that `bcgraph check` never pays for torch.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from bcgraph.cli import streams
from bcgraph.cli.examples import EXAMPLES
from bcgraph.cli.guard import FAULT, INTERRUPTED, guarded, report
from bcgraph.errors import chain
from bcgraph.machine import refusal

# What each command does, in the order of `bcgraph --help`; command `x` lives in module `bcgraph.cli.commands.x`, or
# where `_MODULES` says.
COMMANDS: dict[str, str] = {
    "new": "Write a first file for a data set and a backbone.",
    "demo": "Place feedback in a small network on real digits, export it and run it.",
    "check": "Check files and print what is wrong with them.",
    "fmt": "Rewrite files in canonical form; comments stay.",
    "show": "Show what a file describes: its ports, shapes and sizes, or its temporal graph.",
    "schema": "Print the JSON schema of a specification.",
    "import": "Import a torch module or a NIR file as a .bcg file with its weights.",
    "compile": "Compile a network to a file: .onnx, .nir, .c, .pt2 or .py.",
    "score": "Score a network at initialization, without training it.",
    "search": "Search for backward connections.",
    "train": "Train a network.",
    "eval": "Measure the accuracy of a network on the test set.",
    "run": "Run an exported network on a data set, a folder of images or a stream of frames.",
    "profile": "Show what a network costs: operations, spikes, energy, and memory of its states.",
    "draw": "Draw a network with its backward connections as arcs.",
    "report": "Print what a search or a training run did.",
    "compare": "Compare training runs and searches: means over seeds, tests and pictures.",
    "view": "Show a network in the browser and switch its connections, or follow a search.",
    "lsp": "Start the language server, for editors.",
    "data": "List the data sets, where each is looked for, and how to get it.",
    "explain": "Explain an error code.",
    "plugins": "List what installed plugins have registered.",
}


_MODULES = {
    "new": "first.new",
    "demo": "first.demo",
    "data": "first.data",
    "explain": "first.explain",
    "import": "import_",
    "fmt": "texts.fmt",
    "schema": "texts.schema",
    "draw": "texts.draw",
    "plugins": "texts.plugins",
    "lsp": "texts.lsp",
}

# What libraries are asked for before they are loaded: to print no warnings of their own, to send nothing, and not to
# look through all that is installed for plugins of their own.
LIBRARIES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "GLOG_minloglevel": "2",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}

# How often a thread of OpenMP looks whether the others are done before it sleeps. With its own default, 300,000 times,
# two threads on two cores that others use too take some 150 times as long for a small network; with this, 10 times, and
# on idle cores about a twentieth more.
SPINS = ("GOMP_SPINCOUNT", "10000")
_WAITING = "OMP_WAIT_POLICY"

_COMPLETING = "_BCGRAPH_COMPLETE"

_HELP = frozenset({"-h", "--help", "--version"})


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"bcgraph {version('bcgraph')}")
        raise typer.Exit


def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Backward connections in spiking neural networks: describe, compile, search, train, export."""


def _epilog(name: str) -> str:
    """The examples of a command, as they stand below its options."""
    # Lines that belong together begin with this mark, and keep their ends.
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in EXAMPLES.get(name, ()))


def build(asked: str | None = None) -> typer.Typer:
    """The application, with the command `asked` alone if there is such a command, else with all of them."""
    app = typer.Typer(
        name="bcgraph",
        no_args_is_help=True,
        add_completion=asked not in COMMANDS,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    # The list of commands needs only their names; the shell that completes a line needs their options too.
    whole = asked in COMMANDS or _COMPLETING in os.environ
    for name in [asked] if asked in COMMANDS else COMMANDS:
        app.command(name, help=COMMANDS[name], epilog=_epilog(name))(guarded(function(name)) if whole else _named)
    return app


def function(name: str) -> Callable[..., None]:
    """The function of a command."""
    module = import_module(f"bcgraph.cli.commands.{_MODULES.get(name, name)}")
    found: Callable[..., None] = getattr(module, f"{name}_command")
    return found


def _named() -> None:
    """Stands for a command where it is only listed."""


def main() -> None:
    """The entry point. Exit codes: 0 done, 1 the input is at fault, 2 wrong usage, 128 + N ended by signal N."""
    try:
        streams.prepare()
        prepare_libraries()
        _run(sys.argv[1:])
    except KeyboardInterrupt:
        # Before a command has begun, so there is nothing to resume.
        sys.exit(INTERRUPTED)
    finally:
        # CPython notes an interrupt that leaves code made from a string, as an import makes it for each dataclass, and
        # ends a module run by `python -m` with SIGINT for it, caught or not. Running such code again clears the note.
        with suppress(MemoryError):
            exec("")


def prepare_libraries() -> None:
    """Ask libraries in the environment, before they are loaded; what the user has set there stays."""
    for name, value in LIBRARIES.items():
        os.environ.setdefault(name, value)
    # The number would overrule the policy.
    if _WAITING not in os.environ:
        os.environ.setdefault(*SPINS)


def _loaded(arguments: list[str]) -> typer.Typer:
    """The application with the command in the first of `arguments`.

    What its modules make lives as long as the process. To look for garbage in that again and again would cost a small
    command a sixth of its time, so the collector never sees it.
    """
    gc.disable()
    try:
        return build(arguments[0] if arguments else None)
    finally:
        gc.freeze()
        gc.enable()


def _run(arguments: list[str]) -> None:
    """Run the command; what it has printed must have been written when it ends with 0."""
    try:
        _loaded(arguments)(prog_name="bcgraph")
    except OSError as error:
        # Help and the version are printed before a command begins.
        if arguments and not _HELP.intersection(arguments):
            _refused(error)
        streams.drop(sys.stdout)
        report(streams.unwritable(error).diagnostics, as_json=False)
        sys.exit(FAULT)
    except Exception as error:
        # As where there is no room for the modules of a command.
        _refused(error)
    except SystemExit as end:
        # The reader of a pipe has seen enough of the help, which the libraries that print it take for a failure.
        if _HELP.intersection(arguments) and any(isinstance(one, BrokenPipeError) for one in chain(end)):
            sys.exit(0)
        try:
            sys.stdout.flush()
        except OSError as error:
            streams.drop(sys.stdout)
            if not end.code and not isinstance(error, BrokenPipeError):
                report(streams.unwritable(error).diagnostics, as_json=False)
                sys.exit(FAULT)
        raise


def _refused(error: Exception) -> NoReturn:
    """End with what the machine refuses before a command begins; raises `error` where that is a fault of ours."""
    found = refusal(error)
    if found is None:
        raise error
    report(found.diagnostics, as_json=False)
    sys.exit(FAULT)
