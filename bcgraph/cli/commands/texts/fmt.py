"""`bcgraph fmt`: files in canonical form, comments kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcgraph.cli.guard import FAULT, report
from bcgraph.cli.inputs import STDIN, read_text
from bcgraph.cli.output import count, emit, say
from bcgraph.errors import BcgraphError


def fmt_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help=".bcg files, or - for standard input.")],
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 if a file would change.")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print the result and change no file.")] = False,
) -> None:
    """Format every file; one that does not parse is left as it is, and the others are still formatted."""
    from bcgraph import dsl

    changed = failed = 0
    for file in files:
        try:
            old = read_text(file)
            new = dsl.format_text(old, file=STDIN if file == "-" else file)
            if stdout or (file == "-" and not check):
                emit(new, exact=True)
            elif old != new:
                _change(file, new, check=check)
                changed += 1
        except BcgraphError as error:
            failed += 1
            report(error.diagnostics, as_json=False)
    if changed:
        say(f"{count(changed, 'file')} {'would be changed' if check else 'changed'}")
    if failed or (check and changed):
        raise typer.Exit(FAULT)


def _change(file: str, text: str, *, check: bool) -> None:
    from bcgraph import files

    if not check:
        # Through a link to the file that it names, so that the link stays one.
        files.write_text(Path(file).resolve(), text)
    say(f"{file}: {'would be changed' if check else 'changed'}")
