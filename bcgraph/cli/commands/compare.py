"""`bcgraph compare`: training runs and searches side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcgraph.cli.inputs import JsonOption
from bcgraph.cli.output import count, emit, emit_json, say, table

if TYPE_CHECKING:
    from bcgraph.comparison.searches import Pooled
    from bcgraph.comparison.table import Comparison, Row


def compare_command(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Directories of training runs and searches, or folders of such."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Draw accuracy against epochs, and every seed: .svg or .png."),
    ] = None,
    pooled: Annotated[
        Path | None,
        typer.Option("--pooled", metavar="FILE", help="Draw all connections that the searches found: .svg or .png."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Group runs that differ by their seeds alone, and compare each group with the one without connections.

    Accuracies are those after the last epoch. Where two groups have two seeds or more in common the test is Student's
    on the differences, otherwise Welch's.
    """
    from bcgraph.comparison import runs as training
    from bcgraph.comparison.table import compare
    from bcgraph.viz.bars import format_of

    for picture in (out, pooled):
        if picture is not None:
            format_of(picture)  # before anything is read
    searches = [path for path in runs if (path / "run.json").is_file()]
    with_runs = [path for path in runs if path not in searches or (path / "finish").is_dir()]
    trained = [run for path in with_runs for run in training.find(path)]
    comparison = compare(training.group(trained)) if trained else None
    together = _pooled(searches) if searches else None
    if as_json:
        rows = [] if comparison is None else [row.as_data() for row in comparison.rows]
        found: dict[str, Any] = {"groups": rows, "pooled": None if together is None else together.as_data()}
        if comparison is not None:
            found |= {"held_out": comparison.held_out, "base": comparison.rows[comparison.base].group.name}
        emit_json(found)
    else:
        parts = [] if comparison is None else [_text(comparison)]
        parts += (
            [] if together is None else [f"{count(len(together.found), 'search', 'searches')}: {together.verdict()}"]
        )
        emit("\n\n".join(parts))
    if out is not None:
        _draw(comparison, out)
    if pooled is not None:
        _draw_pooled(together, pooled)


def _pooled(searches: list[Path]) -> Pooled:
    from bcgraph import search
    from bcgraph.comparison.searches import pool
    from bcgraph.search.records.directory import specification

    networks = []
    for path in searches:
        found = search.history(path)["chosen"]
        pairs = () if found is None else tuple((source, target) for source, target in found["backward"])
        networks.append((specification(path).ports, pairs))
    return pool(networks)


def _draw(comparison: Comparison | None, out: Path) -> None:
    if comparison is None:
        raise typer.BadParameter("there are no training runs to draw", param_hint="--out")
    from bcgraph.viz import curves

    curves.draw(comparison, out)
    say(f"{out}: written")


def _draw_pooled(together: Pooled | None, out: Path) -> None:
    if together is None:
        raise typer.BadParameter("there are no searches to draw", param_hint="--pooled")
    from bcgraph.viz import pooled

    pooled.draw(together, out)
    say(f"{out}: written")


def _text(comparison: Comparison) -> str:
    header = ("network", "seeds", f"{comparison.held_out} accuracy", "difference", "95 % interval", "p")
    rows = [_cells(row) for row in comparison.rows]
    lines = [table(header, rows, right=range(1, len(header)))]
    unfinished = [run.path for row in comparison.rows for run in row.group.runs if not run.finished]
    lines += [f"note: {path} is not finished, and counts with its last epoch" for path in unfinished]
    return "\n".join([*lines, "", *comparison.verdicts()]).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    first = (row.group.name, str(row.accuracy.count), str(row.accuracy))
    found = row.difference
    if found is None:
        return (*first, "", "", "")
    interval = "" if found.low is None or found.high is None else f"{found.low:+.4f} to {found.high:+.4f}"
    return (*first, f"{found.mean:+.4f}", interval, "" if found.p is None else f"{found.p:.2g}")
