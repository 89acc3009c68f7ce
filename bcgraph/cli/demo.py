"""`make demo`: a search, two trainings, an export and a run in onnxruntime, on real digits within minutes.

The digits are shown to a tiny network one row a step, and the answer is read after the last row. So the network has to
remember, which is what backward connections are for: the one that is found is trained beside the network without any.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.guard import guarded, prepare_streams
from bcgraph.cli.output import connections, emit, say, table
from bcgraph.cli.score import LABELS

if TYPE_CHECKING:
    from bcgraph.schema import NetworkSpec
    from bcgraph.search.records import Measure

SPEC = "tiny_digits_rows.bcg"
SEARCH = "search"


@dataclass(frozen=True)
class Row:
    """A line of the final table."""

    architecture: str
    score: str
    accuracy: float
    exported: float
    file: Path


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything is written.")] = Path("out/demo"),
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of those in the file.")] = None,
) -> None:
    """Search backward connections, train the winner and the network without any, export both and run them."""
    from bcgraph import dsl, search
    from bcgraph.cli.search import progress
    from bcgraph.viz import arcs

    started = time.monotonic()
    with resources.as_file(resources.files("bcgraph.specs") / SPEC) as path:
        base = dsl.load(path).with_backward([])
    size = search.space_size(base, base.search.max_backward)
    emit(f"1. searching {size} architectures of {base.name} for the best {_score_label(base)}")
    with progress() as on_event:
        found = search.run(base, out / SEARCH, progress=on_event)
    emit(f"   found: {connections(found.chosen.architecture)}")

    emit(f"2. training it, and the same network without backward connections, on {base.data.name}")
    rows = [_row(spec, out / name, epochs, base) for name, spec in (("winner", found.best), ("baseline", base))]

    picture = out / "winner.svg"
    arcs.draw(found.best, picture)
    emit(f"3. the picture of the winner is {picture}")
    emit("")
    header = ("backward connections", _score_label(base), "accuracy", "in onnxruntime", "file")
    cells = [(r.architecture, r.score, f"{r.accuracy:.4f}", f"{r.exported:.4f}", r.file) for r in rows]
    emit(table(header, cells, right=(1, 2, 3)))
    say(f"\n{time.monotonic() - started:.0f} s")


def _row(spec: NetworkSpec, folder: Path, epochs: int | None, base: NetworkSpec) -> Row:
    """Train `spec`, export it, and run the exported file on the test part of its data."""
    from bcgraph import data, runtime, training, weights
    from bcgraph.cli.train import progress
    from bcgraph.compiler.targets import export

    with progress(folder.name) as on_event:
        trained = training.train(spec, out=folder, epochs=epochs, progress=on_event)
    file = folder.with_suffix(".onnx")
    samples = data.load(spec.data, spec.input, spec.steps).test.take(range(64))[0]
    export(spec, file, state_dict=weights.load(trained.path, spec=spec), form="step", inputs=samples)
    test = data.arrays(spec.data.name, form=spec.input, steps=spec.steps)
    exported = runtime.accuracy(runtime.Network(file), test.inputs, test.labels)
    pairs = [(bc.source, bc.target) for bc in spec.backward]
    return Row(
        connections(pairs), f"{_score(spec, base, folder.parent / SEARCH):.4g}", trained.accuracy, exported, file
    )


def _score(spec: NetworkSpec, base: NetworkSpec, folder: Path) -> float:
    """What the search in `folder` thinks of `spec`, which it may not have come across."""
    from bcgraph.search.evaluators import Standard

    standard = Standard(base, 0, folder, inits=1, score_dtype="float32")
    (found,) = standard.evolve(lambda _: None)([spec])
    return found.value(_measure(base))


def _score_label(base: NetworkSpec) -> str:
    return LABELS[_measure(base)]


def _measure(base: NetworkSpec) -> Measure:
    from bcgraph.search.records import FITNESS

    return FITNESS[base.search.evolve.score]


def main() -> None:
    """The entry point of `python -m bcgraph.cli.demo`."""
    prepare_streams()
    typer.run(guarded(demo))


if __name__ == "__main__":
    main()
