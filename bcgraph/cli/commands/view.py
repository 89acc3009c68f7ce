"""`bcgraph view`: a page of a network or of a search, in the browser of this machine."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.inputs import read_source
from bcgraph.cli.output import say
from bcgraph.errors import RunError

if TYPE_CHECKING:
    from bcgraph.view.network import NetworkPage
    from bcgraph.view.search import SearchPage


def view_command(
    target: Annotated[str, typer.Argument(metavar="FILE_OR_RUN", help="A .bcg file, or the directory of a run.")],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port of the page's server; 0 takes a free one.")
    ] = 0,
    browse: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> None:
    """Show a network, switch its connections on and off, see what they cost and save them; or follow a search.

    The page is served on this machine alone, until Ctrl-C.
    """
    try:
        from bcgraph.view.server import View
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise RunError("E092", "`view` needs a web server", hint="pip install 'bcgraph[view]'") from None
    view = View(_shown(target), port)
    say(f"{target}: {view.url}")
    say("Ctrl-C ends it")
    if browse:
        webbrowser.open(view.url)
    view.run()


def _shown(target: str) -> NetworkPage | SearchPage:
    from bcgraph.view.network import NetworkPage
    from bcgraph.view.search import SearchPage

    path = Path(target)
    if (path / "run.json").is_file():
        page = SearchPage(path)
        page.state()
        return page
    if path.is_dir():
        source = read_source(target).using()
        return NetworkPage(source.spec, path.name, weights=source.weights)
    return NetworkPage.of_file(path)
