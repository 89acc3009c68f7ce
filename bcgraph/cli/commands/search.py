"""`bcgraph search`: backward connections for a network; the same command goes on after an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcgraph.cli.commands.score import LABELS, DtypeOption, InitsOption
from bcgraph.cli.inputs import JsonOption, OutOption, SeedOption, SpecArgument, StorageOption, read_spec
from bcgraph.cli.output import connections, count, emit, emit_json, say
from bcgraph.cli.progress import is_terminal

if TYPE_CHECKING:
    from bcgraph.artifacts import Products
    from bcgraph.search.driver import SearchResult
    from bcgraph.search.events import Event, Progress

STAGES = {
    "init": "scoring the pool",
    "supernet": "training the supernet",
    "evolve": "evolution",
    "audit": "auditing the scores",
}

ORIGINS = {
    "supernet": "the weights that the network inherits from the supernet",
    "initialization": "the initial weights of seed {seed}, as nothing was trained",
}


def search_command(
    spec: SpecArgument,
    out: OutOption,
    seed: SeedOption = 0,
    inits: InitsOption = 1,
    score_dtype: DtypeOption = "float32",
    accuracy_dtype: Annotated[
        str,
        typer.Option(
            "--accuracy-dtype", metavar="TYPE", help="The same for accuracies on the supernet: float32 or int16."
        ),
    ] = "float32",
    storage: StorageOption = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, metavar="N", help="Processes that evaluate candidates.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="The Ray cluster to run them on; `auto` finds it.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, metavar="N", help="Threads of an evaluation; 1 with workers.")
    ] = None,
    devices: Annotated[
        int, typer.Option("--devices", min=1, metavar="N", help="How many train the supernet, sharing each batch.")
    ] = 1,
    accelerator: Annotated[
        str,
        typer.Option(
            "--accelerator", metavar="NAME", help="What kind they are: cpu, mps, auto, or cuda, which evaluates, too."
        ),
    ] = "cpu",
    audit: Annotated[
        int, typer.Option("--audit", min=0, metavar="N", help="Architectures to audit the scores on; 0 for none.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """Search, and leave in DIR the best network found, its weights, a report, and every evaluation on the way."""
    network = read_spec(spec)
    from bcgraph import search
    from bcgraph.artifacts import write
    from bcgraph.search.distributed import usage
    from bcgraph.viz import report

    options = search.Options(inits, score_dtype, accuracy_dtype, storage, workers, ray, threads, devices, accelerator)
    written: list[Products] = []
    with progress() as on_event:

        def finish(result: SearchResult) -> None:
            written.append(write(result))
            _audit(result, audit, on_event)
            report.write(result.path, storage=storage)

        earlier = len(usage.read(out))
        result = search.run(network, out, seed=seed, options=options, progress=on_event, hooks=(finish,))
    (products,) = written
    for note in result.notes:
        say(f"note: {note.text}")
    for used in usage.read(out)[earlier:]:
        say(f"note: {_used(used)}")
    if as_json:
        emit_json(_data(result, products))
    else:
        emit(_text(result, products))


def _used(usage: dict[str, Any]) -> str:
    lost = f" ({usage['lost']} lost and replaced)" if usage["lost"] else ""
    return (
        f"{count(usage['workers'], 'worker')}{lost} on {count(usage['machines'], 'machine')}: {usage['busy']:.1f} s of "
        f"evaluations in {usage['wall']:.1f} s, overhead {usage['overhead']:.1%}"
    )


def _audit(result: SearchResult, candidates: int, on_event: Progress | None) -> None:
    """Keep an audit of the scores, once, where scores took part in the search and there is something to compare."""
    from bcgraph.search.evaluators import Standard
    from bcgraph.search.scores.audit import LEAST, audit, kept
    from bcgraph.search.space import space_size

    settings = result.spec.search
    size = space_size(result.spec, settings.max_backward, same_resolution=settings.same_resolution)
    wanted = min(candidates, size)
    unused = settings.init.pool == 0 and settings.evolve.score == "oneshot"
    if unused or wanted < LEAST or kept(result.path, wanted):
        return
    train, _ = Standard(result.spec, result.seed, result.path).splits
    found = audit(result.spec, train, seed=result.seed, candidates=wanted, progress=on_event, device=result.device)
    found.write(result.path)


def _text(result: SearchResult, products: Products) -> str:
    from bcgraph.search.records.evaluations import FITNESS
    from bcgraph.viz import report

    measure = FITNESS[result.spec.search.evolve.score]
    lines = [
        f"{result.path / 'best.bcg'}: {connections(result.chosen.architecture)}, "
        f"{LABELS[measure]} {result.chosen.evaluation.value(measure):.6g}, "
        f"best of {count(len(result.records), 'evaluation')}",
        f"{products.weights}: {ORIGINS[products.origin].format(seed=result.seed)}",
    ]
    if products.exported is not None:
        proof = products.exported.proof
        lines.append(
            f"{products.exported.path}: {products.exported.size:,} bytes, {proof.differing_samples:.2%} of "
            f"{count(proof.samples, 'prediction')} in onnxruntime differ from torch"
        )
    return "\n".join([*lines, f"{result.path / report.NAME}: the search on one page"])


def _data(result: SearchResult, products: Products) -> dict[str, object]:
    return {
        "file": str(result.path / "best.bcg"),
        "chosen": result.chosen.as_data(),
        "weights": {"file": str(products.weights), "origin": products.origin},
        "onnx": None if products.exported is None else str(products.exported.path),
    }


@contextmanager
def progress() -> Iterator[Progress | None]:
    """Shows a search's events as one bar a stage, on a terminal; otherwise yields None."""
    if not is_terminal():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    best = TextColumn("{task.fields[best]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), best, TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:

        def on_event(event: Event) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = shown.add_task(STAGES.get(event.stage, event.stage), best="")
            found = "" if event.best is None else f"best {event.best:.4g}"
            shown.update(tasks[event.stage], total=event.total, completed=event.done, best=found)

        yield on_event
