"""`bcgraph compile`: a network as a file for other programs, proved on real data before it is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.commands.eval import WeightsOption
from bcgraph.cli.inputs import JsonOption, RunArgument, SetOption, Source, read_source
from bcgraph.cli.output import emit, emit_json, say, table
from bcgraph.errors import CompileError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from bcgraph.compiler.export.card import Facts
    from bcgraph.compiler.export.proof import Port
    from bcgraph.compiler.export.provenance import Provenance
    from bcgraph.compiler.export.request import ExportReport
    from bcgraph.compiler.targets.onnx.int8_comparison import Comparison
    from bcgraph.normalization import Normalization
    from bcgraph.schema import NetworkSpec

SAMPLES = 64


def compile_command(
    spec: RunArgument,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write; its ending chooses the format.")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--form",
            metavar="FORM",
            help="unrolled: all steps in one graph; step: one step, states in and out; scan: one step in a loop.",
        ),
    ] = "unrolled",
    weights: WeightsOption = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Put the data set's normalization into the file.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantize to 8 bits, calibrated on training samples, and compare.")
    ] = False,
    inline: Annotated[
        bool, typer.Option("--inline", help="Write ONNX without local functions, for runtimes that lack them.")
    ] = False,
    allow_loss: Annotated[
        bool,
        typer.Option(
            "--allow-loss", help="Write a .nir file without the connections that NIR cannot express, and list them."
        ),
    ] = False,
    author: Annotated[str, typer.Option("--author", metavar="TEXT", help="The author, kept in the file.")] = "",
    license_: Annotated[
        str, typer.Option("--license", metavar="NAME", help="The license, kept in the file: apache-2.0, cc-by-4.0, ...")
    ] = "",
    card: Annotated[
        bool, typer.Option("--card", help="Also write a model card for the Hugging Face hub: net.md beside net.onnx.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="The seed of initial weights, where there are no others.")] = 0,
    settings: SetOption = [],  # noqa: B006  (never changed; typer wants a list)
    as_json: JsonOption = False,
) -> None:
    """Write the network with its weights, after running the result against torch on samples of its data set."""
    from bcgraph.compiler.targets.onnx import int8_comparison as eight

    quantized = int8 and out.suffix != ".c"  # a C file is written in 8 bits from the beginning
    if quantized:
        eight.check(out, form)
        if inline:
            raise CompileError("E072", "--int8 finds the spikes by the functions of neurons", hint="leave out --inline")
    from bcgraph.compiler.export import card as cards

    beside = cards.place(out) if card else None
    source = read_source(spec, settings).using(weights)
    from bcgraph import files
    from bcgraph import weights as weight_files
    from bcgraph.compiler.export import provenance as origins
    from bcgraph.compiler.targets.export import export

    path = source.weights
    source.warn()
    tensors = None if path is None else weight_files.load(path, spec=source.spec)
    if tensors is None:
        say(f"note: no weights are given: those in {out} are drawn from seed {seed}")
    known = _provenance(source, weights, author, license_, named=not settings)
    samples = _samples(source.spec, normalize, needed=normalize or quantized)
    with TemporaryDirectory() as folder:
        made = Path(folder) / "float32.onnx" if quantized else out
        report = export(
            source.spec,
            made,
            state_dict=tensors,
            form=form,
            inputs=samples.inputs,
            classes=samples.classes,
            normalization=samples.normalization,
            seed=seed,
            allow_loss=allow_loss,
            inherited=source.inherited,
            int8=int8 and not quantized,
            inline=inline,
            provenance=known,
        )
        compared = None
        if quantized:
            smaller = made.with_name("int8.onnx")
            compared = eight.quantize(source.spec, made, smaller, inside=normalize)
            files.write_bytes(out, smaller.read_bytes())
            report = replace(report, path=out, size=smaller.stat().st_size)
    if beside is not None:
        known = origins.settled(known, inherited=source.inherited, drawn=seed if tensors is None else None)
        cards.write(beside, _facts(source.spec, report, known, samples, compared))
        report = replace(report, beside=(*report.beside, beside))
    for loss in report.losses:
        say(f"lost: {loss}")
    for warning in () if report.proof is None else report.proof.warnings:
        say(f"warning: {warning}")
    if as_json:
        emit_json(_data(report, path) | {"int8": None if compared is None else asdict(compared)})
    else:
        emit(_text(report, samples.origin, compared))


def _provenance(source: Source, asked: Path | None, author: str, license_: str, *, named: bool) -> Provenance:
    """What is known of the weights. Where their file does not name its data set, that of a run is the specification's,
    as long as it is `named` there and not by a setting."""
    from bcgraph.compiler.export import provenance

    found = provenance.Provenance()
    if source.weights is not None:
        data = source.spec.data.name if asked is None and named else None
        found = provenance.of_weights(source.weights, data)
    return replace(found, author=author.strip(), license=license_.strip())


@dataclass(frozen=True)
class _Samples:
    """What a file is proved on and what is written into it, as far as it is known."""

    origin: str
    inputs: Tensor | None = None
    classes: tuple[str, ...] = ()
    normalization: Normalization | None = None


def _samples(spec: NetworkSpec, inside: bool, needed: bool) -> _Samples:
    """Real inputs, or none where the data set is not on this machine. Raises DataError (E081) when it is `needed`."""
    from bcgraph import data

    try:
        splits = data.load(spec.data, spec.input, spec.steps)
    except DataError as error:
        if needed:
            raise
        say(f"note: checked on drawn inputs, as the data set cannot be read: {error.diagnostics[0].message}")
        return _Samples("drawn inputs")
    count = min(SAMPLES, len(splits.test))
    return _Samples(
        f"test samples of {spec.data.name}",
        splits.test.take(range(count))[0],
        splits.classes,
        splits.train.source.normalization(inside),
    )


def _facts(
    spec: NetworkSpec, report: ExportReport, known: Provenance, samples: _Samples, compared: Comparison | None
) -> Facts:
    """What the model card tells."""
    from bcgraph.compiler.export.card import Facts

    ports = () if report.proof is None else report.proof.ports
    return Facts(
        spec,
        report.path,
        report.form,
        report.size,
        known,
        _proof(report, samples.origin, compared),
        samples.origin,
        ports if compared is None else compared.ports,
        samples.classes,
        samples.normalization,
        None if compared is None else (compared.rows[1].accuracy, compared.samples),
    )


def _proof(report: ExportReport, origin: str, compared: Comparison | None) -> str:
    """What was found when the file was compared with torch; empty where it was not."""
    if (proof := report.proof) is None:
        return ""
    return (
        f"{'' if compared is None else 'before it was quantized, '}"
        f"{report.by} against torch on {proof.samples} {origin}: "
        f"{proof.differing_samples:.2%} of predictions and {proof.differing_spikes:.4%} of spikes differ, "
        f"logits by at most {proof.logit_difference:.1e}"
    )


def _text(report: ExportReport, origin: str, compared: Comparison | None) -> str:
    proof = report.proof
    beside = "".join(f", with {path}" for path in report.beside)
    notes = "".join(f"\n{note}" for note in report.notes)
    if proof is None:
        return f"{report.path}: {report.size:,} bytes{beside}, not compared with torch{notes}"
    return (
        f"{report.path}: {report.form}{'' if compared is None else ' in int8'}, {report.size:,} bytes{beside}\n"
        f"{_proof(report, origin, compared)}\n"
        f"firing rates: {_rates(proof.ports if compared is None else compared.ports)}"
        + ("" if compared is None else f"\n\n{_table(compared)}")
        + ("" if report.changed is None else f"\n{_changed(report)}")
        + notes
    )


def _changed(report: ExportReport) -> str:
    before = "without what is lost" if report.losses else "for its weights in 8 bits"
    return f"{before}, {report.changed:.2%} of predictions are others"


def _rates(ports: tuple[Port, ...]) -> str:
    return ", ".join(f"{port.name} {port.firing:.3f}" for port in ports)


def _table(compared: Comparison) -> str:
    header = ("", "accuracy", "predictions differ", "spikes differ", "bytes", "ms a sample", "ms for one alone")
    differ = (("", ""), (f"{compared.predictions:.2%}", f"{compared.spikes:.2%}"))
    cells = [
        (r.file, f"{r.accuracy:.4f}", *d, f"{r.size:,}", f"{r.batched:.3f}", f"{r.alone:.3f}")
        for r, d in zip(compared.rows, differ, strict=True)
    ]
    return table(header, cells, right=range(1, 7))


def _data(report: ExportReport, weights: Path | None) -> dict[str, object]:
    return {
        "file": str(report.path),
        "beside": [str(path) for path in report.beside],
        "form": report.form,
        "size": report.size,
        "weights": None if weights is None else str(weights),
        "losses": list(report.losses),
        "changed": report.changed,
        "notes": list(report.notes),
        "proof": None if report.proof is None else asdict(report.proof) | {"warnings": report.proof.warnings},
    }
