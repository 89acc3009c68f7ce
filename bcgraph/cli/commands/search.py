"""`bcgraph search`: finds backward connections for a network; the same command resumes an interrupted search."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from bcgraph import plugins, pruning, spaces
from bcgraph.cli.guard import adopt
from bcgraph.cli.inputs import (
    AtOnceOption,
    Captures,
    GraphsOption,
    InitsOption,
    JsonOption,
    OutOption,
    ScoreDtypeOption,
    SeedOption,
    SetOption,
    SpecArgument,
    StorageOption,
    candidates_at_once,
    read_spec,
    to_train,
)
from bcgraph.cli.output import connections, count, emit, emit_json, say
from bcgraph.cli.progress import search_bars

if TYPE_CHECKING:
    from bcgraph.artifacts import Artifacts
    from bcgraph.search.events import Progress
    from bcgraph.search.records.trained import Finish
    from bcgraph.search.result import SearchResult
    from bcgraph.training.options import Precision

ORIGINS = {
    "training": "the trained weights of the run",
    "supernet": "inherited weights: those of the supernet, with which the network was never trained on its own",
    "initialization": "the initial weights of seed {seed}, as nothing was trained",
}


def search_command(
    spec: SpecArgument,
    out: OutOption,
    seed: SeedOption = 0,
    inits: InitsOption = 1,
    score_dtype: ScoreDtypeOption = "float32",
    accuracy_dtype: Annotated[
        str,
        typer.Option(
            "--accuracy-dtype", metavar="TYPE", help="Data type of accuracies on the supernet: float32 or int16."
        ),
    ] = "float32",
    storage: StorageOption = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, metavar="N", help="Processes that evaluate candidates.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="The Ray cluster that runs the workers: auto, or HOST:PORT."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            metavar="N",
            help="Threads of an evaluation.",
            show_default="1 with workers, else torch's number",
        ),
    ] = None,
    devices: Annotated[
        int,
        typer.Option(
            "--devices",
            min=1,
            metavar="N",
            help="Devices that train the supernet; with --ray, processes of the cluster.",
        ),
    ] = 1,
    accelerator: Annotated[
        str,
        typer.Option(
            "--accelerator",
            metavar="NAME",
            help="Kind of these devices: cpu, cuda, mps or auto; candidates are evaluated on the CPU or on cuda.",
        ),
    ] = "cpu",
    precision: Annotated[
        str, typer.Option("--precision", metavar="NAME", help="Precision of training runs: 32 or bf16-mixed.")
    ] = "32",
    graphs: GraphsOption = Captures.AUTO,
    at_once: AtOnceOption = "auto",
    audit: Annotated[
        int,
        typer.Option(
            "--audit", min=0, metavar="N", help="Architectures on which the scores are audited; 0 audits nothing."
        ),
    ] = 20,
    settings: SetOption = [],  # noqa: B006  (never changed; typer wants a list)
    as_json: JsonOption = False,
) -> None:
    """Search, and leave in DIR the best network found, its weights, a report, and every evaluation on the way."""
    network = read_spec(spec, settings)
    for text in spaces.notes(network):
        say(f"note: {text}")
    from bcgraph import search
    from bcgraph.artifacts import write
    from bcgraph.search.distributed import usage
    from bcgraph.viz import report

    adopt("optuna", "ray")
    options = search.Options(
        inits,
        score_dtype,
        accuracy_dtype,
        storage,
        workers,
        ray,
        threads,
        devices,
        accelerator,
        graphs.value,
        candidates_at_once(at_once),
        cast("Precision", precision),
    )
    written: list[Artifacts] = []
    with search_bars() as on_event:

        def finish(result: SearchResult) -> None:
            written.append(write(result))
            _audit(result, audit, on_event)
            report.write(result.path)

        earlier = len(usage.read(out))
        result = search.run(network, out, seed=seed, options=options, progress=on_event, hooks=(finish,))
    (artifacts,) = written
    for note in result.notes:
        say(f"note: {note.text}")
    for used in usage.read(out)[earlier:]:
        say(f"note: {_used(used)}")
    if as_json:
        emit_json(_data(result, artifacts))
    else:
        emit(_text(result, artifacts))


def _used(usage: dict[str, Any]) -> str:
    lost = f" ({usage['lost']} lost and replaced)" if usage["lost"] else ""
    return (
        f"{count(usage['workers'], 'worker')}{lost} on {count(usage['machines'], 'machine')}: {usage['busy']:.1f} s of "
        f"evaluations in {usage['wall']:.1f} s, overhead {usage['overhead']:.1%}"
    )


def _audit(result: SearchResult, candidates: int, on_event: Progress | None) -> None:
    """Audit the scores once, if the search used them and there are enough candidates to compare."""
    from bcgraph.search.evaluators import Standard
    from bcgraph.search.records import objectives
    from bcgraph.search.scores.audit import LEAST, audit, kept
    from bcgraph.search.space.search_space import of_search

    settings = result.spec.search
    wanted = min(candidates, of_search(result.spec).size)
    one_run = pruning.one_run(settings.evolve.strategy)
    by = objectives.of_search(settings)
    unused = one_run or (
        settings.init.pool == 0 and set(plugins.names("score")).isdisjoint(each.measure for each in by)
    )
    if unused or wanted < LEAST or kept(result.path, wanted):
        return
    train, _ = Standard(result.spec, result.seed, result.path).splits
    found = audit(result.spec, train, seed=result.seed, candidates=wanted, progress=on_event, device=result.device)
    found.write(result.path)


def _text(result: SearchResult, artifacts: Artifacts) -> str:
    from bcgraph.search.records import objectives
    from bcgraph.search.result import FRONT, values_text
    from bcgraph.viz import report

    settings = result.spec.search.evolve
    by = objectives.of_search(result.spec.search)
    one_run = pruning.one_run(settings.strategy)
    found = values_text(result.chosen, by, short=True)
    if result.finish is not None and result.finish.best is not None:
        found = f"trained to a validation accuracy of {result.finish.text(result.finish.best)}"
    whence = (
        f"left of {count(len(result.records[0].architecture), 'connection')}"
        if one_run
        else f"best of {count(len(result.records), 'evaluation')}"
    )
    lines = [
        f"{result.path / 'best.bcg'}: {connections(result.chosen.architecture)}, {found}, {whence}",
        f"{artifacts.weights}: {ORIGINS[artifacts.origin].format(seed=result.seed)}",
    ]
    if len(by) > 1:
        evolved = [r for r in result.records if r.stage == "evolve"]
        front = objectives.front(evolved, by, objectives.required(result.spec.search))
        lines.append(f"{result.path / FRONT}: {count(len(front), 'network')} that no other one beats in everything")
    if artifacts.exported is not None and (proof := artifacts.exported.proof) is not None:
        lines.append(
            f"{artifacts.exported.path}: {artifacts.exported.size:,} bytes, {proof.differing_samples:.2%} of "
            f"{count(proof.samples, 'prediction')} in onnxruntime differ from torch"
        )
    if result.finish is not None:
        lines += _trained(result.finish)
    return "\n".join([*lines, f"{result.path / report.NAME}: the search on one page", f"next: {following(result)}"])


def following(result: SearchResult) -> str:
    """The command to type after a search: what trains the network found, or measures it where it is trained."""
    from bcgraph import origins
    from bcgraph.search.records import objectives

    trained = objectives.weights(result.spec.search.model_dump(mode="json")) == origins.TRAINING
    return shlex.join(["bcgraph", "eval", str(result.path)]) if trained else to_train(result.path)


def _trained(finish: Finish) -> list[str]:
    """A line for each network of the last stage."""
    return [f"{each.name}: validation accuracy {finish.text(each)}" for each in finish.networks]


def _data(result: SearchResult, artifacts: Artifacts) -> dict[str, object]:
    return {
        "file": str(result.path / "best.bcg"),
        "chosen": result.chosen.as_data(),
        "weights": {"file": str(artifacts.weights), "origin": artifacts.origin},
        "finish": None if result.finish is None else result.finish.as_data(),
        "next": following(result),
        "onnx": None if artifacts.exported is None else str(artifacts.exported.path),
    }
