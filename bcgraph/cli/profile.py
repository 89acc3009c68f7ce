"""`bcgraph profile`: what a network costs, by layer and by step."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.inputs import JsonOption, RunArgument, SeedOption, Source, read_source
from bcgraph.cli.output import emit, emit_json, say, table

if TYPE_CHECKING:
    from bcgraph.profile import Profile

PICO = 1e-12


def profile_command(
    spec: RunArgument,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="A .safetensors file [default: that of the run].")
    ] = None,
    seed: SeedOption = 0,
    batches: Annotated[
        int, typer.Option("--batches", min=0, metavar="N", help="Test batches to measure on; 0 counts only.")
    ] = 4,
    accumulate: Annotated[
        float, typer.Option("--accumulate", min=0.0, metavar="PJ", help="Energy of one accumulate, in picojoules.")
    ] = 0.9,
    multiply_accumulate: Annotated[
        float, typer.Option("--multiply-accumulate", min=0.0, metavar="PJ", help="Energy of one multiply-accumulate.")
    ] = 4.6,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Also draw it as bars: .svg or .png.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print parameters, operations, firing rates on test data, synaptic operations, energy and the size of states."""
    from bcgraph.profile import profile

    source = read_source(spec)
    rates = _measured(source, weights, seed, batches) if batches else None
    found = profile(source.spec, rates)
    energies = (accumulate * PICO, multiply_accumulate * PICO)
    if picture is not None:
        from bcgraph.viz import bars

        bars.draw(found, picture, accumulate=energies[0], multiply_accumulate=energies[1])
    if as_json:
        emit_json(found.as_data(*energies))
    else:
        emit(_text(found, *energies))
    if picture is not None:
        say(f"{picture}: written")


def _measured(source: Source, asked: Path | None, seed: int, batches: int) -> dict[tuple[int, int], float]:
    from bcgraph import compiler, data
    from bcgraph import weights as files
    from bcgraph.profile import measure

    network, path = source.spec, asked or source.weights
    split = data.load(network.data, network.input, network.steps).test
    tensors = None if path is None else files.load(path, spec=network)
    model = compiler.compile(network, seed=seed)
    if tensors is None:
        say(f"note: no weights are given: firing rates are those of a network drawn from seed {seed}")
    else:
        files.apply(model, tensors)
    return measure(model, islice(split.batches(network.data.batch), batches))


def _text(found: Profile, accumulate: float, multiply_accumulate: float) -> str:
    header = ["layer", "reads", "parameters", "operations/step", "steps"]
    rows: list[list[object]] = []
    for layer in found.layers:
        late = f" (-{layer.delay})" if layer.delay else ""
        reads = "numbers" if layer.reads is None else f"@{layer.reads}{late}"
        row: list[object] = [layer.name, reads, f"{layer.parameters:,}", f"{layer.operations:,}", layer.steps]
        if found.measured:
            energy = found.energy(layer, accumulate, multiply_accumulate)
            row += [f"{layer.synaptic(found.rates):,.0f}", f"{energy * 1e9:,.2f}"]
        rows.append(row)
    if found.measured:
        header += ["synaptic/sample", "nJ/sample"]
    parts = [table(header, rows, right=range(2, len(header)))]
    if found.measured:
        ports = [
            [f"@{number}", port.name, *(f"{rate:.3f}" for rate in port.rates)]
            for number, port in enumerate(found.ports)
        ]
        steps = [f"t={t}" for t in range(found.steps)]
        parts.append(table(["port", "firing rate of", *steps], ports, right=range(2, 2 + found.steps)))
    totals = [
        f"{found.parameters:,} parameters, {found.operations:,} operations a step, {found.steps} steps",
        f"{found.state_values:,} values of state between steps, {4 * found.state_values:,} bytes in float32",
    ]
    if found.measured:
        data = found.as_data(accumulate, multiply_accumulate)
        totals.append(f"{data['synaptic']:,.0f} synaptic operations and {data['energy'] * 1e6:.4g} uJ a sample")
    return "\n\n".join([*parts, "\n".join(totals)])
