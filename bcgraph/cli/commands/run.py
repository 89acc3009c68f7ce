"""`bcgraph run`: an exported network on a data set, a folder of images or a stream of frames, with onnxruntime alone.

A .nir file is run by torch, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcgraph.cli.inputs import JsonOption, stdin_lines
from bcgraph.cli.output import emit, emit_json, say
from bcgraph.cli.progress import bar
from bcgraph.errors import RunError
from bcgraph.origins import INHERITED

if TYPE_CHECKING:
    from bcgraph.runtime import Latency, Runnable
    from bcgraph.signature import Floats


def run_command(
    network: Annotated[
        Path, typer.Argument(metavar="FILE", help="An .onnx file that bcgraph has written, or a .nir file.")
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME", help="Measure the accuracy on the test part of this data set."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Print a prediction for each image in this folder and its subfolders.",
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Predict after each line of standard input, a frame; an empty line begins a new sequence.",
        ),
    ] = False,
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="The folder with the data sets.")] = "data",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples in one call of onnxruntime.")] = 256,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, max=10_000, metavar="T", help="Steps of a .nir file of another library; 4 unless given."
        ),
    ] = None,
    dt: Annotated[
        float | None,
        typer.Option(
            "--dt", min=1e-12, metavar="SECONDS", help="How long a step of such a file lasts; 0.0001 unless given."
        ),
    ] = None,
    frames: Annotated[bool, typer.Option("--frames", help="Feed such a file one frame at each step.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the accuracy, or predict image by image or frame by frame; torch is neither needed nor loaded."""
    _check_is_exported(network)
    if sum((data is not None, images is not None, stream)) != 1:
        raise typer.BadParameter("give one of --data NAME, --images DIR and --stream")
    loaded = _load(network, steps, dt, frames)
    if loaded.signature.inherited:
        say(
            f"note: {INHERITED}: {network} has those of a supernet, and the network was never trained on its own; "
            "`bcgraph train` on the directory of the search trains it"
        )
    if stream:
        _stream(loaded, stdin_lines())
    elif images is not None:
        _predict(loaded, images, batch, as_json)
    elif data is not None:
        _measure(loaded, data, root, batch, as_json)


def _check_is_exported(path: Path) -> None:
    """Raise RunError (E087) for a specification or the directory of a run, which have to be compiled first."""
    what = "the directory of a run" if path.is_dir() else "a specification" if path.suffix == ".bcg" else None
    if what is not None:
        file = f"{path.name.removesuffix('.bcg') or 'net'}.onnx"
        raise RunError(
            "E087",
            f"`{path}` is {what}, not an exported network",
            hint=f"export it with `bcgraph compile {path} -o {file}`, then run {file}",
        )


def _load(path: Path, steps: int | None = None, dt: float | None = None, frames: bool = False) -> Runnable:
    asked = steps is not None or dt is not None or frames
    if path.suffix == ".nir":
        from bcgraph.compiler.targets.nir.file import load, written_here

        if not written_here(path):
            return _of_others(path, steps, dt, frames)
    if asked:
        raise typer.BadParameter(f"{path} says this itself: --steps, --dt and --frames are for .nir files of others")
    if path.suffix == ".nir":
        return load(path)
    from bcgraph import runtime

    return runtime.Network(path)


def _of_others(path: Path, steps: int | None, dt: float | None, frames: bool) -> Runnable:
    """A NIR file that another library has written, as the network that it is imported to."""
    from bcgraph.importing import from_nir
    from bcgraph.importing.running import Network

    told = {name: value for name, value in (("steps", steps), ("dt", dt)) if value is not None}
    found = from_nir(path, frames=frames, **told)  # type: ignore[arg-type]
    for note in found.notes:
        say(f"note: {note}")
    return Network(path, found)


def _measure(network: Runnable, data: str, root: str, batch: int, as_json: bool) -> None:
    from bcgraph import data as sets
    from bcgraph import runtime

    signature = network.signature
    part = sets.arrays(data, root=root, form=signature.input, steps=signature.steps)
    inputs: Floats = part.inputs
    if signature.normalization is not None and signature.normalization.inside:
        inputs = signature.normalization.raw(inputs)
    with bar("running", len(part.labels)) as advance:
        chosen, seconds = runtime.predictions(network, inputs, batch=batch, on_batch=advance)
    accuracy = float((chosen == part.labels).mean())
    latency = runtime.latency(network, inputs)
    if as_json:
        emit_json(
            {"file": str(network.path), "form": signature.form, "data": data, "samples": len(part.labels)}
            | {"accuracy": accuracy}
            | _figures(batch, seconds, latency)
        )
    else:
        emit(f"{network.path} ({signature.form}): accuracy {accuracy:.4f} on {len(part.labels)} test samples of {data}")
        say(_told(len(part.labels), batch, seconds, latency))


def _predict(network: Runnable, folder: Path, batch: int, as_json: bool) -> None:
    """A prediction for each image; the accuracy too where the folders that hold them are the network's classes."""
    import numpy as np

    from bcgraph import runtime
    from bcgraph.files import escaped

    paths = _listed(folder)
    take = _reader(network, paths)
    chosen: list[int] = []
    seconds = 0.0
    with bar("running", len(paths)) as advance:
        for start in range(0, len(paths), batch):
            found, spent = runtime.predictions(network, take(range(start, min(start + batch, len(paths)))), batch=batch)
            chosen += found.tolist()
            seconds += spent
            advance(len(found))
    names = network.signature.classes
    said = [names[c] if c < len(names) else str(c) for c in chosen]
    folders = [escaped(path.parent.name) if path.parent != folder else None for path in paths]
    right = [a == b for a, b in zip(said, folders, strict=True)]
    accuracy = float(np.mean(right)) if set(folders) <= {*names} else None
    latency = runtime.latency(network, take(range(min(len(paths), batch))))
    if as_json:
        pairs = [{"image": str(path), "class": name} for path, name in zip(paths, said, strict=True)]
        emit_json(
            {"file": str(network.path), "form": network.signature.form, "images": pairs, "accuracy": accuracy}
            | _figures(batch, seconds, latency)
        )
        return
    emit("\n".join(f"{path.relative_to(folder)}\t{name}" for path, name in zip(paths, said, strict=True)))
    if accuracy is not None:
        say(f"accuracy {accuracy:.4f} on {len(paths)} images, whose folders are the classes")
    say(_told(len(paths), batch, seconds, latency))


def _listed(folder: Path) -> list[Path]:
    """The images in a folder and in its folders. Raises DataError (E081) when there are none."""
    from bcgraph.data.readers.images import SUFFIXES, listed
    from bcgraph.errors import DataError

    if not folder.is_dir():
        raise DataError("E081", f"there is no folder `{folder}`", hint="--images takes a folder of image files")
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [path for place in (folder, *inner) for path in listed(place)]
    if not found:
        raise DataError("E081", f"`{folder}` holds no images", hint=f"they end in {', '.join(SUFFIXES)}")
    return found


def _reader(network: Runnable, paths: Sequence[Path]) -> Callable[[range], Floats]:
    """Reads images by their numbers as the network takes them: resized, from 0 to 1, and normalized as it says."""
    import numpy as np

    from bcgraph.data.readers.images import MODES, ImageFiles

    form, normalization = network.signature.input, network.signature.normalization
    if form.kind == "sequence":
        raise RunError("E090", "the network takes sequences of frames, not images", hint="use --stream")
    if form.kind != "image":
        raise RunError("E090", f"the network takes a {form.kind}, not images", hint="use --data")
    if form.channels not in MODES:
        raise RunError("E090", f"images have 1 or 3 channels, but the network takes {form.channels}")
    files = ImageFiles(tuple(paths), form.channels, (form.height, form.width))
    if normalization is None:
        say("note: the file does not say how its input is normalized, so pixels are fed as they are, from 0 to 1")

    def take(numbers: range) -> Floats:
        values: Floats = files.take(np.array(numbers, dtype=np.int64))
        return values if normalization is None or normalization.inside else normalization.normalized(values)

    return take


def _figures(batch: int, seconds: float, latency: Latency) -> dict[str, Any]:
    return {"batch": batch, "seconds": seconds, "latency_ms": {"median": latency.median, "p95": latency.slow}}


def _told(samples: int, batch: int, seconds: float, latency: Latency) -> str:
    return (
        f"{1000 * seconds / samples:.3f} ms a sample in batches of {batch}; "
        f"one sample alone {latency.median:.3f} ms (95 % within {latency.slow:.3f} ms)"
    )


def _stream(network: Runnable, lines: Iterable[str]) -> None:
    """A prediction for each line of numbers.

    Raises RunError: E090 with the number of a line that is no frame, E087 where the network computes nan.
    """
    import numpy as np

    from bcgraph import runtime
    from bcgraph.signature import largest

    stream = network.stream()
    form = network.signature.input
    shape = form.shape
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
        chosen = int(largest(readout[None], network.path)[0])
        emit(names[chosen] if chosen < len(names) else str(chosen))
    if stream.seconds:
        latency = runtime.Latency.of(stream.seconds)
        say(f"{len(stream.seconds)} frames, {latency.median:.3f} ms each (95 % within {latency.slow:.3f} ms)")
