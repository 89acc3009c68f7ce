"""`bcgraph compile`: a network as a file for other programs, proved on real data before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.eval import WeightsOption
from bcgraph.cli.inputs import JsonOption, RunArgument, read_source
from bcgraph.cli.output import emit, emit_json, say
from bcgraph.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from bcgraph.compiler.targets import ExportReport, Normalization
    from bcgraph.schema import NetworkSpec

SAMPLES = 64


def compile_command(
    spec: RunArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Where to write; the ending decides what.")],
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="unrolled: all steps in one graph; step: one step, states in and out; scan: one step in a loop.",
        ),
    ] = "unrolled",
    weights: WeightsOption = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Put the data set's normalization into the file.")
    ] = False,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Write NIR without the connections that it cannot say, and name them.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="For weights that are drawn, where none are given.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write the network with its weights, after running the result against torch on samples of its data set."""
    source = read_source(spec)
    from bcgraph import weights as files
    from bcgraph.compiler.targets import export

    path = weights or source.weights
    tensors = None if path is None else files.load(path, spec=source.spec)
    if tensors is None:
        say(f"note: no weights are given: those in {out} are drawn from seed {seed}")
    samples = _samples(source.spec, normalize)
    report = export(
        source.spec,
        out,
        state_dict=tensors,
        form=form,
        inputs=samples.inputs,
        classes=samples.classes,
        normalization=samples.normalization,
        seed=seed,
        allow_loss=allow_loss,
    )
    for loss in report.losses:
        say(f"lost: {loss}")
    if as_json:
        emit_json(_data(report, path))
    else:
        emit(_text(report, samples.origin))


@dataclass(frozen=True)
class _Samples:
    """What a file is proved on and what is written into it, as far as it is known."""

    origin: str
    inputs: Tensor | None = None
    classes: tuple[str, ...] = ()
    normalization: Normalization | None = None


def _samples(spec: NetworkSpec, inside: bool) -> _Samples:
    """Real inputs, or none where the data set is not on this machine.

    Raises DataError (E081) when it is not and its normalization is wanted inside the file.
    """
    from bcgraph import data
    from bcgraph.compiler.targets import Normalization

    try:
        splits = data.load(spec.data, spec.input, spec.steps)
    except DataError as error:
        if inside:
            raise
        say(f"note: checked on drawn inputs, as the data set cannot be read: {error.diagnostics[0].message}")
        return _Samples("drawn inputs")
    count = min(SAMPLES, len(splits.test))
    return _Samples(
        f"test samples of {spec.data.name}",
        splits.test.take(range(count))[0],
        splits.classes,
        Normalization(tuple(splits.mean), tuple(splits.std), inside),
    )


def _text(report: ExportReport, origin: str) -> str:
    proof = report.proof
    beside = "".join(f", with {path}" for path in report.beside)
    return (
        f"{report.path}: {report.form}, {report.size:,} bytes{beside}\n"
        f"{report.by} against torch on {proof.samples} {origin}: "
        f"{proof.differing_samples:.2%} of predictions and {proof.differing_spikes:.4%} of spikes differ, "
        f"logits by at most {proof.logit_difference:.1e}"
        + ("" if report.changed is None else f"\nwithout what is lost, {report.changed:.2%} of predictions are others")
    )


def _data(report: ExportReport, weights: Path | None) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "file": str(report.path),
        "beside": [str(path) for path in report.beside],
        "form": report.form,
        "size": report.size,
        "weights": None if weights is None else str(weights),
        "losses": list(report.losses),
        "changed": report.changed,
        "proof": asdict(report.proof),
    }
