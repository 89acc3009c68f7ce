"""`bcgraph demo`: feedback placed in one training run, beside the paper's search and a network without, within minutes.

The digits are shown to a tiny network one row a step, and the answer is read after the last row. So the network has to
remember, which is what backward connections are for. Three networks are compared:

- all 15 connections train at once, each starting quietly, and are pruned to four (`tiny_digits_rows_gains.bcg`);
- the paper's search in two steps, whose winner is then trained (`tiny_digits_rows.bcg`);
- no connection.

Each is exported and run in onnxruntime.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bcgraph.cli.output import connections, emit, say, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from bcgraph.schema import NetworkSpec
    from bcgraph.search.result import SearchResult

T = TypeVar("T")

GAINS = "tiny_digits_rows_gains.bcg"
PAPER = "tiny_digits_rows.bcg"

THREADS = 1


@dataclass(frozen=True)
class Row:
    """A line of the final table. `seconds` are those of the search and the training together."""

    way: str
    architecture: str
    seconds: float
    accuracy: float
    exported: float
    file: Path


def demo_command(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder for everything that the demo writes.")
    ] = Path("out/demo"),
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", min=2, metavar="N", help="Epochs of each training run, in place of those in the files."
        ),
    ] = None,
) -> None:
    """Place feedback in one training run, and by the paper's search; export what they find and run it."""
    from bcgraph.nn.defaults import threads

    # For a network as small as this, a second thread waits as much as it computes.
    with threads(THREADS):
        _demonstrate(out, epochs)


def _demonstrate(out: Path, epochs: int | None) -> None:
    from bcgraph import pruning, training
    from bcgraph.cli.commands.train import progress
    from bcgraph.viz import arcs, report

    started = time.monotonic()
    one_run, paper = _spec(GAINS, epochs), _spec(PAPER, epochs)
    gains = pruning.of(one_run)

    emit(f"1. training {one_run.name} with all connections at gain {gains.gain:g}, pruned to {gains.keep} on the way")
    found, seconds = _timed(lambda: _searched(one_run, out / "gains"))
    page = report.write(found.path)
    rows = [_row("all at once, pruned", found.best, found.path / "best.safetensors", seconds)]
    emit(f"   left: {rows[0].architecture}")

    emit(f"2. the paper's search of {paper.name}, and a training run of what it finds")

    def trained(spec: NetworkSpec, name: str) -> Path:
        with progress(name) as on_event:
            return training.train(spec, out=out / name, epochs=epochs, progress=on_event).path

    def searched() -> tuple[NetworkSpec, Path]:
        best = _searched(paper, out / "search").best
        return best, trained(best, "paper")

    (best, path), seconds = _timed(searched)
    rows.append(_row("the paper's search", best, path, seconds))
    emit(f"   found: {rows[1].architecture}")

    emit("3. the same network without backward connections")
    path, seconds = _timed(lambda: trained(paper, "none"))
    rows.append(_row("none", paper, path, seconds))

    picture = out / "gains.svg"
    arcs.draw(found.best, picture)
    emit(f"4. the picture of the first is {picture}, the report on it {page}")
    emit("")
    header = ("search", "backward connections", "seconds", "accuracy", "in onnxruntime", "file")
    cells = [
        (r.way, r.architecture, f"{r.seconds:.0f}", f"{r.accuracy:.4f}", f"{r.exported:.4f}", r.file) for r in rows
    ]
    emit(table(header, cells, right=(2, 3, 4)))
    say(f"\n{time.monotonic() - started:.0f} s")


def _spec(name: str, epochs: int | None) -> NetworkSpec:
    """The network of a file without connections; `epochs` take the place of the file's, those of a supernet too."""
    from bcgraph import dsl, pruning

    with resources.as_file(resources.files("bcgraph.specs") / name) as path:
        base = dsl.load(path).with_backward([])
    if epochs is None:
        return base
    search = base.search
    gains = pruning.of(base)
    stages = min(gains.stages, max(1, int(epochs * gains.prune_until)))
    own = None if search.evolve.own is None else gains.model_copy(update={"stages": stages})
    changes = {
        "supernet": search.supernet.model_copy(update={"epochs": epochs}),
        "evolve": search.evolve.model_copy(update={"own": own}),
    }
    train = base.train.model_copy(update={"epochs": epochs})
    return base.model_copy(update={"search": search.model_copy(update=changes), "train": train})


def _searched(spec: NetworkSpec, folder: Path) -> SearchResult:
    """Search in a folder, and write the weights."""
    from bcgraph import artifacts, search
    from bcgraph.cli.progress import search_bars

    def finish(result: SearchResult) -> None:
        artifacts.write(result)

    with search_bars() as on_event:
        return search.run(spec, folder, progress=on_event, hooks=[finish])


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` returns, and the seconds that it took."""
    began = time.monotonic()
    found = work()
    return found, time.monotonic() - began


def _row(way: str, spec: NetworkSpec, path: Path, seconds: float) -> Row:
    """Measure the weights at `path` on the test part, export them, and run the exported file on the same samples."""
    from bcgraph import data, runtime, training, weights
    from bcgraph.compiler import compile as compile_network
    from bcgraph.compiler.targets.export import export

    state: Mapping[str, Tensor] = weights.load(path, spec=spec)
    model = compile_network(spec)
    model.load_state_dict(dict(state))
    test = data.load(spec.data, spec.input, spec.steps).test
    accuracy = training.evaluate(model, test, readout=spec.readout)
    file = path.parent.with_suffix(".onnx")
    export(spec, file, state_dict=state, form="step", inputs=test.take(range(64))[0])
    arrays = data.arrays(spec.data.name, form=spec.input, steps=spec.steps)
    chosen, _ = runtime.predictions(runtime.Network(file, threads=THREADS), arrays.inputs)
    exported = float((chosen == arrays.labels).mean())
    pairs = [(bc.source, bc.target) for bc in spec.backward]
    return Row(way, connections(pairs), seconds, accuracy, exported, file)
