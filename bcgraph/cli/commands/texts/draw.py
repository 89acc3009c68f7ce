"""`bcgraph draw`: a picture of a network with its backward connections as arcs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcgraph.cli.inputs import RunArgument, read_source
from bcgraph.cli.output import say


def draw_command(
    spec: RunArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Where to write: .svg or .png.")],
) -> None:
    """Write a picture; its ending decides its format. Of a run, lines are as wide as training made connections loud."""
    source = read_source(spec).using()
    source.warn()
    from bcgraph.viz import arcs

    arcs.draw(source.spec, out, scales=source.scales())
    say(f"{out}: written")
