"""`bcgraph run`: an exported network on a data set or on a stream of frames, with onnxruntime alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.inputs import JsonOption
from bcgraph.cli.output import emit, emit_json, say
from bcgraph.cli.progress import bar
from bcgraph.errors import RunError

if TYPE_CHECKING:
    from bcgraph.runtime import Network


def run_command(
    network: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx file that bcgraph has written.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="The data set whose test part is used.")
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Read a frame from each line of standard input, print a prediction for it; an empty line starts anew.",
        ),
    ] = False,
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where the data set lies.")] = "data",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples in one call of onnxruntime.")] = 256,
    as_json: JsonOption = False,
) -> None:
    """Measure the accuracy, or predict frame by frame; torch is neither needed nor loaded."""
    from bcgraph import runtime

    if (data is None) == (not stream):
        raise typer.BadParameter("give either --data NAME or --stream")
    loaded = runtime.Network(network)
    if stream:
        _stream(loaded, sys.stdin)
    elif data is not None:
        _measure(loaded, data, root, batch, as_json)


def _measure(network: Network, data: str, root: str, batch: int, as_json: bool) -> None:
    from bcgraph import data as sets
    from bcgraph import runtime

    signature = network.signature
    part = sets.arrays(data, root=root, form=signature.input, steps=signature.steps)
    inputs: runtime.Floats = part.inputs
    if signature.normalization is not None and signature.normalization.inside:
        inputs = signature.normalization.raw(inputs)
    started = time.perf_counter()
    with bar("running", len(part.labels)) as advance:
        accuracy = runtime.accuracy(network, inputs, part.labels, batch=batch, on_batch=advance)
    seconds = time.perf_counter() - started
    if as_json:
        emit_json(
            {"file": str(network.path), "form": signature.form, "data": data, "samples": len(part.labels)}
            | {"accuracy": accuracy, "batch": batch, "seconds": seconds}
        )
    else:
        emit(f"{network.path} ({signature.form}): accuracy {accuracy:.4f} on {len(part.labels)} test samples of {data}")
        say(f"{1000 * seconds / len(part.labels):.3f} ms a sample in batches of {batch}")


def _stream(network: Network, lines: Iterable[str]) -> None:
    """A prediction for each line of numbers. Raises RunError (E090) with the number of a line that is no frame."""
    import numpy as np

    stream = network.stream()
    form = network.signature.input
    shape = (form.channels, form.height, form.width)
    names = network.signature.classes
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            stream.reset()
            continue
        try:
            values = np.array(line.replace(",", " ").split(), dtype=np.float32)
        except ValueError:
            raise RunError("E090", f"line {number}: a frame is a line of numbers") from None
        if values.size != np.prod(shape):
            wanted = f"{int(np.prod(shape))} ({'x'.join(map(str, shape))})"
            raise RunError("E090", f"line {number}: a frame has {wanted} numbers, but this line has {values.size}")
        readout = stream.push(values.reshape(shape))
        chosen = int(readout.argmax())
        emit(names[chosen] if chosen < len(names) else str(chosen))
    if stream.seconds:
        middle, slow = (1000 * float(np.percentile(stream.seconds, p)) for p in (50, 95))
        say(f"{len(stream.seconds)} frames, {middle:.3f} ms each (95 % within {slow:.3f} ms)")
