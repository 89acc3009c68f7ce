"""`bcgraph check`: all that is wrong with files, or what they describe in a line each."""

from __future__ import annotations

from typing import Annotated

import typer

from bcgraph import spaces
from bcgraph.cli.guard import FAULT, report
from bcgraph.cli.inputs import JsonOption, read_spec
from bcgraph.cli.output import count, emit, emit_json, say
from bcgraph.data.declaration import check_network
from bcgraph.errors import BcgraphError, Diagnostic
from bcgraph.schema import NetworkSpec, SearchSpec, TrainSpec


def check_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help=".bcg files, or - for standard input.")],
    as_json: JsonOption = False,
) -> None:
    """Check every file, also after one has failed."""
    found: list[Diagnostic] = []
    faulty = 0
    for file in files:
        try:
            spec = read_spec(file)
            check_network(spec)
            _check_sections(spec)
        except BcgraphError as error:
            found.extend(error.diagnostics)
            faulty += 1
            if not as_json:
                report(error.diagnostics, as_json=False)
        else:
            if not as_json:
                ports, connections = len(spec.ports), len(spec.backward)
                about = f"{count(ports, 'port')}, {count(connections, 'backward connection')}"
                emit(f"{file}: {spec.name}: {about}, {count(spec.steps, 'step')}")
                for note in spaces.idle_delays(spec):
                    say(f"note: {file}: {note}")
    if as_json:
        emit_json({"diagnostics": [d.as_data() for d in found]})
    elif found:
        say(f"{count(len(found), 'error')} in {count(faulty, 'file')}")
    if found:
        raise typer.Exit(FAULT)


def _check_sections(spec: NetworkSpec) -> None:
    """Raise what `search` and `train` refuse before they begin, where a file says anything about them."""
    if spec.search != SearchSpec():
        from bcgraph.search.strategies import selection

        selection.check(spec)
    if spec.train != TrainSpec():
        from bcgraph.training import checks

        checks.batch(spec, 1)
