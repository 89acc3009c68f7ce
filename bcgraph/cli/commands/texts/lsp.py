"""`bcgraph lsp`: the language server, for editors."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from bcgraph.errors import RunError


def lsp_command(
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Use standard input and output: the only way, and the default.")
    ] = True,
) -> None:
    """Start the language server on standard input and output; an editor does this."""
    if find_spec("pygls") is None:
        raise RunError("E092", "the language server needs the package `pygls`", hint="pip install 'bcgraph[lsp]'")
    from bcgraph.lsp import server

    server.serve()
