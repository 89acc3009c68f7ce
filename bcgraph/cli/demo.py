"""`make demo`: a search in two steps, two training runs, an export and a run in onnxruntime, within minutes.

The digits are shown to a tiny network one row a step, and the answer is read after the last row. So the network has to
remember, which is what backward connections are for: those that are found are trained beside the network without any.

The search is that of `tiny_digits_rows_sifted.bcg`. It ends among the best of these 121 architectures more often than
with the settings of the paper, in `tiny_digits_rows.bcg`, which `--paper` takes; docs/science.md says why.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli import streams
from bcgraph.cli.guard import guarded
from bcgraph.cli.output import connections, emit, say, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from bcgraph.schema import InitSpec, NetworkSpec

PAPER = "tiny_digits_rows.bcg"
SIFTED = "tiny_digits_rows_sifted.bcg"
SEARCH = "search"


@dataclass(frozen=True)
class Row:
    """A line of the final table."""

    architecture: str
    shared: float
    accuracy: float
    exported: float
    file: Path


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything is written.")] = Path("out/demo"),
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Of each training, instead of those in the file.")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Search with the paper's settings.")] = False,
) -> None:
    """Search backward connections, train the winner and the network without any, export both and run them."""
    from bcgraph import search
    from bcgraph.cli.progress import search_bars
    from bcgraph.viz import arcs, report

    started = time.monotonic()
    base = _spec(PAPER if paper else SIFTED, epochs)
    settings = base.search
    size = search.space_size(base, settings.max_backward)
    pool = size if settings.init.pool == "all" else settings.init.pool
    how = f"{settings.evolve.strategy}, on" if settings.evolve.iterations else "the best of these on"
    emit(f"1. searching {size} architectures of {base.name}")
    emit(f"   step one: {settings.init.keep} of {pool}, by {_scores(settings.init)}")
    emit(f"   step two: {how} a supernet of {settings.supernet.epochs} epochs")
    with search_bars() as on_event:
        found = search.run(base, out / SEARCH, progress=on_event)
    page = report.write(found.path)
    emit(f"   found: {connections(found.chosen.architecture)}")

    emit(f"2. training it, and the same network without backward connections, on {base.data.name}")
    shared = _shared(base, found.path)
    rows = [_row(spec, out / name, epochs, shared) for name, spec in (("winner", found.best), ("baseline", base))]

    picture = out / "winner.svg"
    arcs.draw(found.best, picture)
    emit(f"3. the picture of the winner is {picture}, the report of the search {page}")
    emit("")
    header = ("backward connections", "on the supernet", "accuracy", "in onnxruntime", "file")
    cells = [(r.architecture, f"{r.shared:.4f}", f"{r.accuracy:.4f}", f"{r.exported:.4f}", r.file) for r in rows]
    emit(table(header, cells, right=(1, 2, 3)))
    say(f"\n{time.monotonic() - started:.0f} s")


def _spec(name: str, epochs: int | None) -> NetworkSpec:
    """The network of a file without connections; `epochs` of the supernet take the place of the file's."""
    from bcgraph import dsl

    with resources.as_file(resources.files("bcgraph.specs") / name) as path:
        base = dsl.load(path).with_backward([])
    if epochs is None:
        return base
    supernet = base.search.supernet.model_copy(update={"epochs": epochs})
    return base.model_copy(update={"search": base.search.model_copy(update={"supernet": supernet})})


def _scores(init: InitSpec) -> str:
    from bcgraph.search.records.evaluations import NAMES

    return " and ".join(NAMES[score] for score in init.scores)


def _shared(base: NetworkSpec, folder: Path) -> Callable[[NetworkSpec], float]:
    """The accuracy that a network has with the weights of the supernet of the search in `folder`."""
    from bcgraph.search.evaluators import Standard

    evaluate = Standard(base, 0, folder).evolve(lambda _: None)
    return lambda spec: next(iter(evaluate([spec]))).value("accuracy")


def _row(spec: NetworkSpec, folder: Path, epochs: int | None, shared: Callable[[NetworkSpec], float]) -> Row:
    """Train `spec`, export it, and run the exported file on the test part of its data."""
    from bcgraph import data, runtime, training, weights
    from bcgraph.cli.commands.train import progress
    from bcgraph.compiler.targets.export import export

    with progress(folder.name) as on_event:
        trained = training.train(spec, out=folder, epochs=epochs, progress=on_event)
    file = folder.with_suffix(".onnx")
    samples = data.load(spec.data, spec.input, spec.steps).test.take(range(64))[0]
    export(spec, file, state_dict=weights.load(trained.path, spec=spec), form="step", inputs=samples)
    test = data.arrays(spec.data.name, form=spec.input, steps=spec.steps)
    chosen, _ = runtime.predictions(runtime.Network(file), test.inputs)
    exported = float((chosen == test.labels).mean())
    pairs = [(bc.source, bc.target) for bc in spec.backward]
    return Row(connections(pairs), shared(spec), trained.accuracy, exported, file)


def main() -> None:
    """The entry point of `python -m bcgraph.cli.demo`."""
    streams.prepare()
    typer.run(guarded(demo))


if __name__ == "__main__":
    main()
