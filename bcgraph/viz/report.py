"""The report of a search: one self-contained page of pictures and tables.

The page can be read without scripts. Its own script names points on hover, sorts tables, filters by port and shows the
architecture of a point; it reads the one JSON value in the page (`report_data`).
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from bcgraph import files, origins, pruning, spaces
from bcgraph.schema import NetworkSpec
from bcgraph.search.records import conclusions, objectives
from bcgraph.search.records.directory import specification
from bcgraph.search.records.evaluations import MEASURES, keys_in, name_of
from bcgraph.search.records.history import history
from bcgraph.spaces import Member
from bcgraph.viz import charts, report_data

NAME = "report.html"

# How many architectures are drawn, and how many rows the table has.
_DRAWN, _ROWS = 6, 20


def write(directory: Path) -> Path:
    """Write `report.html` of the search in `directory`, finished or not, from its log alone. Returns its path.

    Raises RunError: E085 when it is not the directory of a search, E084 when the page cannot be written.
    """
    path = directory / NAME
    files.write_text(path, page(history(directory), specification(directory), directory))
    return path


def page(found: Mapping[str, Any], spec: NetworkSpec, directory: Path = Path("DIR")) -> str:
    """The page for a history (as `bcgraph.search.history` gives it) of a search of `spec` in a directory."""
    by = objectives.objectives(found["settings"])
    measure = by[0].measure
    # Registered scores stand beside the others: none has the name of a field.
    found = {**found, "evaluations": [_flat_scores(e) | {"at": i} for i, e in enumerate(found["evaluations"])]}
    found["chosen"] = found["chosen"] and _flat_scores(found["chosen"])
    found["beside"] = [_flat_scores(e) for e in found.get("beside", ())]
    places = {(e["stage"], e["iteration"], e["index"]): e for e in found["evaluations"]}
    found["front"] = [places[e["stage"], e["iteration"], e["index"]] for e in found.get("front", ())]
    pool = [e for e in found["evaluations"] if e["stage"] == "init"]
    evolved = [e for e in found["evaluations"] if e["stage"] == "evolve"]
    stages = evolved if pruning.one_run(found["settings"]["evolve"]["strategy"]) else []
    sign = 1 if by[0].maximize else -1
    best = stages[::-1] or sorted(
        evolved,
        key=lambda e: ("breaks" not in e, -math.inf if e[measure] is None else sign * e[measure]),
        reverse=True,
    )
    tenth = best[: max(1, math.ceil(len(best) / 10))] if best else []
    ports = len(spec.ports)
    start = [keys_in(e) for e in evolved if e["iteration"] == 0]
    both = {"n", "e"} <= set(spec.search.init.scores) and pool
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bcgraph.viz", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        found=found,
        keys_in=keys_in,
        by=by,
        goal=found["settings"]["evolve"]["score"] if not found["front"] else ", ".join(b.measure for b in by),
        front=charts.front(evolved, found["front"], by) if found["front"] else "",
        spec=spec,
        label=name_of(measure),
        names=name_of,
        measure=measure,
        pool=pool,
        evolved=evolved,
        stages=stages,
        best=best,
        rows=_ROWS,
        data=report_data.as_json(found["evaluations"], spec, _measures(found, by)),
        drawn=[(e, _picture(spec, e)) for e in best[:_DRAWN]],
        progress=charts.progress(evolved, measure, name_of(measure), maximize=by[0].maximize) if evolved else "",
        plane=charts.plane(pool, start) if both else "",
        heat=charts.heat(evolved, measure, name_of(measure), ports) if evolved else "",
        positions=charts.positions(evolved, tenth, ports) if evolved else "",
        tenth=len(tenth),
        port=spec.ports,
        sentences=[*conclusions.beside_none(found), *conclusions.scores(found)],
        where=conclusions.positions(evolved, tenth, ports),
        inherited=origins.INHERITED if found.get("weights") == origins.SUPERNET else "",
        training=shlex.join(["bcgraph", "train", str(directory), "--out", f"{directory}-trained"]),
        settings=_flat(found["settings"]),
    )


def _picture(spec: NetworkSpec, evaluation: Mapping[str, Any]) -> str:
    """An evaluated architecture as arcs, with all that its connections are made of."""
    keys = keys_in(evaluation)
    if "members" not in evaluation:
        return charts.architecture(spec.ports, keys)
    # A stage of a training run holds alternatives, too.
    network = spaces.wired(spaces.Together.of(spec), [Member(*key) for key in keys])
    return charts.architecture(spec.ports, network.backward, network.forward)


def _measures(found: Mapping[str, Any], by: objectives.Objectives) -> list[str]:
    """The names of all that was measured, what the search goes by first."""
    others = [m for m in MEASURES if any(e[m] is not None for e in found["evaluations"])]
    others += [m for e in found["evaluations"] for m in e.get("scores", ())]
    return list(dict.fromkeys([*(each.measure for each in by), *others]))


def _flat_scores(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation with its registered scores among its other measures."""
    return {**evaluation.get("scores", {}), **evaluation}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and values."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((prefix + name, shown))
    return rows
