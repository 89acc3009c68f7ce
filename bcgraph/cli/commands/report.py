"""`bcgraph report`: the history of a search, also while it is running."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcgraph import dsl, pruning, run_files
from bcgraph.cli.inputs import JsonOption, to_train
from bcgraph.cli.output import connections, count, emit, emit_json, say, table
from bcgraph.comparison.runs import wiring
from bcgraph.errors import BcgraphWarning, RunError

if TYPE_CHECKING:
    from bcgraph.comparison.runs import Run
    from bcgraph.schema import Place
    from bcgraph.search.records.objectives import Objective

SHOWN = 10


def report_command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a search or of a training run.")],
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="Accepted as by `search`; DIR holds the whole history."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Draw the curves of a training run: .svg or .png."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the best evaluations, or with --json the whole history in order; of a training run its epochs.

    The log in DIR holds the whole history, so --storage is accepted and nothing is read from there.
    """
    from bcgraph.comparison import runs

    if runs.is_training(directory):
        _training(runs.read(directory), out, as_json=as_json)
        return
    if out is not None:
        raise typer.BadParameter("only a training run has curves; a search has report.html", param_hint="--out")
    from bcgraph import search
    from bcgraph.search.records.directory import specification

    found, scales = search.history(directory), _scales(directory)
    if as_json:
        emit_json(found)
    else:
        emit(_text(found, scales, specification(directory).ports, directory))


def _training(run: Run, out: Path | None, *, as_json: bool) -> None:
    """The epochs of a training run as a table or data, and its curves as a picture (paper figure 6)."""
    if out is not None:
        from bcgraph.viz import curves

        curves.draw_run(run, out)
        say(f"{out}: written")
    if as_json:
        emit_json({"spec": run.spec.name, "seed": run.seed, "held_out": run.held_out, **_epochs(run)})
        return
    every = max(1, -(-len(run.history) // SHOWN))
    shown = [p for p in run.history if p.epoch % every == 0 or p is run.history[-1]]
    rows = [
        (p.epoch, f"{p.lr:.4g}", f"{p.loss:.4f}", f"{p.train:.4f}", f"{p.held_out:.4f}", f"{p.seconds:.1f}")
        for p in shown
    ]
    header = ("epoch", "learning rate", "loss", "training accuracy", f"{run.held_out} accuracy", "seconds")
    best = max(run.history, key=lambda p: p.held_out)
    left = "finished" if run.finished else f"{run.spec.train.epochs - len(run.history)} epochs left"
    lines = [
        f"training  {run.spec.name}, seed {run.seed}, {count(len(run.history), 'epoch')}, {left}",
        f"wiring    {wiring(run.spec)}",
        f"accuracy  {run.accuracy:.4f} on {run.held_out} data after the last epoch (best {best.held_out:.4f} after "
        f"{count(best.epoch, 'epoch')}, chosen on the same data)",
    ]
    emit("\n".join([*lines, "", table(header, rows, right=range(len(header)))]))


def _epochs(run: Run) -> dict[str, Any]:
    return {"finished": run.finished, "accuracy": run.accuracy, "history": [asdict(point) for point in run.history]}


def _scales(directory: Path) -> dict[Place, float]:
    """How loud the connections of a finished search are, by the weights that it leaves."""
    from bcgraph.scales import learned_scales

    path, text = directory / run_files.BEST, directory / "best.bcg"
    if not path.is_file() or not text.is_file():
        return {}
    found = dsl.load(text)
    try:
        run_files.check_weights(path, found.fingerprint())
    except RunError as error:
        # The log has the history all the same.
        warnings.warn(error.diagnostics[0].message, BcgraphWarning, stacklevel=2)
        return {}
    return learned_scales(path, found)


def _text(found: dict[str, Any], scales: dict[Place, float], ports: Sequence[str], directory: Path) -> str:
    from bcgraph import origins
    from bcgraph.search.records import conclusions, objectives
    from bcgraph.search.records.evaluations import keys_in, label

    by = objectives.objectives(found["settings"])
    evaluations: list[dict[str, Any]] = found["evaluations"]
    evolved = [e for e in evaluations if e["stage"] == "evolve"]
    one_run = pruning.one_run(found["settings"]["evolve"]["strategy"])
    if one_run:
        every = count(len(keys_in(evaluations[0])) if evaluations else 0, "connection")
        done = [f"trained   {every} at once, pruned in {count(found['settings']['evolve']['stages'], 'stage')}"]
    else:
        done = [
            f"scored    {count(len(evaluations) - len(evolved), 'architecture')}",
            f"evolved   {count(len(evolved), 'architecture')} by {', '.join(label(each.measure) for each in by)}",
        ]
    lines = [
        f"search    {found['spec']}, seed {found['seed']}, {'finished' if found['finished'] else 'not finished'}",
        *done,
        *(f"note      {note}" for note in found["notes"]),
    ]
    if found["chosen"] is not None:
        lines.append(
            f"{'chosen' if found['finished'] else 'best yet':<8}  {connections(keys_in(found['chosen']), ports)}"
        )
    for entry in found.get("beside", ()):
        measured = ", ".join(f"{label(each.measure)} {_shown(entry, each.measure)}" for each in by)
        title = "no connections" if entry["name"] == "none" else connections(keys_in(entry), ports)
        lines.append(f"{entry['name']:<8}  {title}: {measured}")
    lines += _stage(found["finish"], ports) if "finish" in found else []
    lines += [f"so        {sentence}" for sentence in (*conclusions.beside_none(found), *conclusions.scores(found))]
    if found["finished"] and found["weights"] == origins.SUPERNET:
        lines.append(f"weights   {origins.INHERITED}: the network found was never trained on its own")
    if found["finished"] and found["weights"] != origins.TRAINING:
        lines.append(f"next      {to_train(directory)}")
    if found["finished"] and scales:
        listed = (
            f"{ports[source]} -> {ports[target]}: {scale:.2f}" for (_, source, target, _), scale in scales.items()
        )
        lines.append(f"scales    {', '.join(listed)}")
    if one_run and evolved:
        return "\n".join([*lines, "", _stages(evolved, ports)])
    if len(by) > 1 and found["front"]:
        lines.append(f"front     {count(len(found['front']), 'network')}, below")
        return "\n".join([*lines, "", _best(found["front"], ports)])
    best = sorted(evolved or evaluations, key=lambda e: ("breaks" in e, _order(e, by[0])))[:SHOWN]
    return "\n".join([*lines, "", _best(best, ports)]) if best else "\n".join(lines)


def _stage(finish: dict[str, Any], ports: Sequence[str]) -> list[str]:
    """A line for each network of the last stage: mean and deviation of the validation accuracy over seeds."""
    from bcgraph.search.records.evaluations import keys_in

    lines = []
    for each in finish["networks"]:
        spread = "" if each["deviation"] is None else f" +- {each['deviation']:.4f}"
        mean = "not trained yet" if each["mean"] is None else f"{each['mean']:.4f}{spread}"
        seeds = count(len(each["runs"]), "seed")
        lines.append(f"trained   {each['name']:<9} {mean} over {seeds}: {connections(keys_in(each), ports)}")
    return lines


def _stages(evaluations: Sequence[dict[str, Any]], ports: Sequence[str]) -> str:
    """Each stage of the training run, in order, and what is pruned after it."""
    from bcgraph.search.records.evaluations import keys_in

    rows = []
    for entry, later in zip_longest(evaluations, evaluations[1:]):
        here, left = keys_in(entry), [] if later is None else keys_in(later)
        pruned = [key for key in here if later is not None and key not in left]
        rows.append((entry["iteration"], len(here), f"{entry['accuracy']:.4f}", connections(pruned, ports)))
    return table(("stage", "connections", "accuracy", "pruned after it"), rows, right=(0, 1, 2))


def _best(evaluations: Sequence[dict[str, Any]], ports: Sequence[str]) -> str:
    from bcgraph.search.records.evaluations import MEASURES, keys_in, label, value_in

    every = dict.fromkeys([*MEASURES, *(m for e in evaluations for m in e.get("scores", {}))])
    measures = [m for m in every if any(value_in(e, m) is not None or m in e["reasons"] for e in evaluations)]
    bounded = any("breaks" in e for e in evaluations)
    rows = [
        (
            connections(keys_in(e), ports),
            *(_shown(e, m) for m in measures),
            e["origin"],
            e["iteration"],
            *([", ".join(e.get("breaks", ()))] if bounded else []),
        )
        for e in evaluations
    ]
    header = ("connections", *(label(m) for m in measures), "origin", "iteration", *(["breaks"] if bounded else []))
    return table(header, rows, right=(*range(1, 1 + len(measures)), 2 + len(measures)))


def _order(evaluation: dict[str, Any], objective: Objective) -> float:
    """The place among evaluations by one objective: the best come first, what was not measured last."""
    from bcgraph.search.records.evaluations import value_in

    value = value_in(evaluation, objective.measure)
    return float("inf") if value is None else -value if objective.maximize else value


def _shown(evaluation: dict[str, Any], measure: str) -> str:
    if measure in evaluation["reasons"]:
        return "-inf"
    from bcgraph.search.records.evaluations import value_in

    value = value_in(evaluation, measure)
    return "" if value is None else f"{value:.6g}"
