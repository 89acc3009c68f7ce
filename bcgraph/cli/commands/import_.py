"""`bcgraph import`: a torch module as a text of the language, with its weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from bcgraph.cli.inputs import JsonOption
from bcgraph.cli.output import emit, emit_json, say

_SHAPE = re.compile(r"[1-9]\d{0,8}(x[1-9]\d{0,8}){1,3}")


def import_command(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="package.module:callable or file.py:callable. Its code runs.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The .bcg file; weights go beside it.")],
    example: Annotated[
        str, typer.Option("--example", metavar="SHAPE", help="The shape of an input with its batch: 1x3x224x224.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An argument of the callable: --set num_classes=10."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="A .safetensors file to load into the module.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, max=10_000, metavar="T", help="Steps of the network.")] = 4,
    neuron: Annotated[
        str, typer.Option("--neuron", metavar="CALL", help="What activations become: lif(tau=0.5).")
    ] = "lif()",
    keep_activations: Annotated[
        bool, typer.Option("--keep-activations", help="Keep activations, as neurons without memory.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a text and its weights. The network is first compared with the module, in float64 at T = 1."""
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
    emit(f"{text}: {len(found.spec.ports)} ports; differs from the module by {found.error:.1g} in float64 at T = 1")
    emit(f"{beside}: {len(found.state_dict)} tensors")
