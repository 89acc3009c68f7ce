"""`bcgraph eval`: the accuracy of a trained network on the test part of its data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bcgraph.cli.inputs import (
    AcceleratorOption,
    Captures,
    GraphsOption,
    JsonOption,
    RunArgument,
    SetOption,
    needed_weights,
    read_source,
)
from bcgraph.cli.output import emit, emit_json

WeightsOption = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="A .safetensors file.", show_default="that of the run")
]

DTYPES = ("bfloat16", "float16", "float64", "int16")
SAMPLES = 256


def eval_command(
    spec: RunArgument,
    weights: WeightsOption = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="NAME",
            help="Also measure in bfloat16, float16, float64 or int16 (16-bit weights), beside float32.",
        ),
    ] = None,
    accelerator: AcceleratorOption = "cpu",
    graphs: GraphsOption = Captures.AUTO,
    settings: SetOption = [],  # noqa: B006  (never changed; typer wants a list)
    as_json: JsonOption = False,
) -> None:
    """Measure the accuracy with the running statistics that training has left."""
    if dtype is not None and dtype not in DTYPES:
        raise typer.BadParameter(f"{dtype} is not one of {', '.join(DTYPES)}", param_hint="--dtype")
    source = read_source(spec, settings).using(weights)
    network, path = source.spec, needed_weights(source)
    source.warn()
    from bcgraph import data, training
    from bcgraph import weights as files
    from bcgraph.compiler import compile
    from bcgraph.nn.graphs.module import captured
    from bcgraph.training import checks
    from bcgraph.training.distributed.devices import device_type

    device = device_type(training.Options(accelerator))
    # In this order a wrong file is found before a data set is read, and a missing data set before a model is built.
    tensors = files.load(path, spec=network)
    splits = data.load(network.data, network.input, network.steps)
    checks.classes(network, splits.classes)
    split = splits.test
    model = compile(network, device=device)
    files.apply(model, tensors)
    call = captured(model, graphs.value, next(model.parameters()).device)
    accuracy = training.evaluate(model, split, readout=network.readout, batch=network.data.batch, call=call)
    found: dict[str, object] = {"weights": str(path), "data": network.data.name, "samples": len(split)}
    found["accuracy"] = accuracy
    lines = [f"{path}: accuracy {accuracy:.4f} on {len(split)} test samples of {network.data.name}"]
    if dtype is not None:
        import torch

        from bcgraph.compiler.analysis.precision import divergence

        inputs = split.take(range(min(SAMPLES, len(split))))[0]
        int16 = dtype == "int16"
        kind = torch.float32 if int16 else getattr(torch, dtype)
        compared = divergence(network, inputs, kind, state_dict=tensors, device=device, int16=int16)
        found[dtype] = asdict(compared)
        lines.append(
            f"in {dtype}, on {compared.samples} of them: {compared.spikes:.4%} of spikes and "
            f"{compared.predictions:.2%} of predictions differ from float32"
        )
    if dtype == "int16":
        rounded = compile(network, device=device, inference=True, weights="int16")
        files.apply(rounded, tensors)
        found["accuracy_int16"] = training.evaluate(rounded, split, readout=network.readout, batch=network.data.batch)
        lines.append(f"accuracy with weights of 16 bits where they meet spikes: {found['accuracy_int16']:.4f}")
    if as_json:
        emit_json(found)
    else:
        emit("\n".join(lines))
