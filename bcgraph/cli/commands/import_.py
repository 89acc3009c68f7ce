"""`bcgraph import`: a torch module or a NIR file as a text of the language, with its weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.inputs import JsonOption
from bcgraph.cli.output import emit, emit_json, say

if TYPE_CHECKING:
    from bcgraph.importing import Imported

_SHAPE = re.compile(r"[1-9]\d{0,8}(x[1-9]\d{0,8}){1,3}")


def import_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="package.module:callable or file.py:callable, whose code runs; or a .nir file."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The .bcg file; its weights go beside it.")],
    example: Annotated[
        str | None,
        typer.Option("--example", metavar="SHAPE", help="The shape of an input with its batch: 1x3x224x224."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An argument of the callable: --set num_classes=10."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="A .safetensors file to load into the module.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, max=10_000, metavar="T", help="Steps of the network.")] = 4,
    neuron: Annotated[
        str, typer.Option("--neuron", metavar="CALL", help="The neuron that replaces activations: lif(tau=0.5).")
    ] = "lif()",
    keep_activations: Annotated[
        bool, typer.Option("--keep-activations", help="Keep activations as neurons without memory.")
    ] = False,
    dt: Annotated[
        float | None,
        typer.Option(
            "--dt", min=1e-12, metavar="SECONDS", help="How long a step of a .nir file lasts; 0.0001 unless given."
        ),
    ] = None,
    frames: Annotated[
        bool,
        typer.Option("--frames", help="Feed a .nir file one frame at each step; otherwise one image at all steps."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a text and its weights. The network is first compared with the source."""
    if source.endswith(".nir"):
        given = {"--example": example, "--set": settings, "--weights": weights, "--keep-activations": keep_activations}
        extra = [name for name, value in given.items() if value]
        if extra:
            raise typer.BadParameter("a .nir file has its shapes, weights and neurons in it", param_hint=extra[0])
        _of_nir(source, out, steps, dt, frames=frames, as_json=as_json)
        return
    if dt is not None or frames:
        raise typer.BadParameter("this is for .nir files", param_hint="--dt" if dt is not None else "--frames")
    if example is None:
        raise typer.BadParameter("a module is run on an example: give its shape, 1x3x224x224", param_hint="--example")
    if not _SHAPE.fullmatch(example):
        raise typer.BadParameter(f"`{example}` is no shape such as 1x3x224x224", param_hint="--example")
    import torch

    from bcgraph.importing import from_torch
    from bcgraph.importing.source import load

    module = load(source, settings or ())
    if weights is not None:
        from bcgraph import weights as files

        files.apply(module, files.load(weights))
    shape = tuple(map(int, example.split("x")))
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found = from_torch(module, drawn, steps=steps, keep_activations=keep_activations, neuron=neuron)
    _report(found, out, "the module by {:.1g} in float64 at T = 1", as_json=as_json)


def _of_nir(source: str, out: Path, steps: int, dt: float | None, *, frames: bool, as_json: bool) -> None:
    from bcgraph.importing import from_nir

    told = {} if dt is None else {"dt": dt}
    found = from_nir(source, steps=steps, frames=frames, name=out.stem, **told)
    _report(found, out, "the graph by {:.1g} in float32", as_json=as_json)


def _report(found: Imported, out: Path, told: str, *, as_json: bool) -> None:
    """Write what was imported, and say so; `told` says what the difference is one of."""
    text, beside = found.save(out)
    if as_json:
        emit_json(
            {
                "spec": str(text),
                "weights": str(beside),
                "ports": list(found.spec.ports),
                "error": found.error,
                "notes": list(found.notes),
                "renamed": [{"from": one, "to": other} for one, other in found.renamed],
            }
        )
        return
    for note in found.notes:
        say(f"note: {note}")
    for one, other in found.renamed:
        say(f"note: `{one}` is called `{other}` here")
    emit(f"{text}: {len(found.spec.ports)} ports; differs from {told.format(found.error)}")
    emit(f"{beside}: {len(found.state_dict)} tensors")
