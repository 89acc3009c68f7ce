"""`bcgraph profile`: what a network costs, by layer and by step."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.inputs import JsonOption, RunArgument, SeedOption, SetOption, Source, read_source
from bcgraph.cli.output import emit, emit_json, say, table
from bcgraph.errors import DataError

if TYPE_CHECKING:
    from bcgraph.profile import Layer, Profile
    from bcgraph.schema import Place

PICO = 1e-12
FORMULAS = "formulas and sources of these numbers: docs/training.md, What a network costs"
UNMEASURED = "`--batches 0` counts parameters and operations without any data"


def profile_command(
    spec: RunArgument,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="A .safetensors file.", show_default="that of the run"),
    ] = None,
    seed: SeedOption = 0,
    batches: Annotated[
        int,
        typer.Option("--batches", min=0, metavar="N", help="Test batches to measure spikes on; 0 measures nothing."),
    ] = 4,
    accumulate: Annotated[
        float,
        typer.Option("--accumulate", min=0.0, max=1e9, metavar="PJ", help="Energy of one accumulate, in pJ."),
    ] = 0.9,
    multiply_accumulate: Annotated[
        float,
        typer.Option(
            "--multiply-accumulate", min=0.0, max=1e9, metavar="PJ", help="Energy of one multiply-accumulate, in pJ."
        ),
    ] = 4.6,
    memory: Annotated[
        float,
        typer.Option(
            "--memory",
            min=0.0,
            max=1e9,
            metavar="PJ",
            help="Energy of moving 32 bits, in pJ: 5 for 8 KB of SRAM in 45 nm.",
        ),
    ] = 0.0,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Also draw the costs as bars: .svg or .png.")
    ] = None,
    settings: SetOption = [],  # noqa: B006  (never changed; typer wants a list)
    as_json: JsonOption = False,
) -> None:
    """Print parameters, operations, firing rates on test data, synaptic operations, energy and the size of states."""
    from bcgraph.profile import profile

    source = read_source(spec, settings).using(weights)
    if picture is not None:
        from bcgraph.viz import bars

        bars.format_of(picture)  # before anything is measured
    source.warn()
    rates = _measured(source, seed, batches) if batches else None
    found = profile(source.spec, rates)
    scales = source.scales() if source.spec.connections else {}
    if any(each.place not in scales for each in source.spec.connections if source.spec.gain(each) is not None):
        scales = {}  # weights of another network, which nothing but a measurement refuses
    energies = (accumulate * PICO, multiply_accumulate * PICO)
    if picture is not None:
        bars.draw(found, picture, accumulate=energies[0], multiply_accumulate=energies[1])
    if as_json:
        data = found.as_data(*energies)
        if memory and found.measured:
            data |= {"words": found.words(), "memory_energy": found.words() * memory * PICO}
        for word in ("backward", "forward") if scales else ():
            for each in data.get(word, ()):
                each["scale"] = scales.get((word, each["source"], each["target"], each["delay"]))
        emit_json(data)
    else:
        traffic = _traffic(found, memory * PICO) if memory and found.measured else ""
        emit(f"{_text(found, *energies, scales)}{traffic}\n{FORMULAS}")
    if picture is not None:
        say(f"{picture}: written")


def _traffic(found: Profile, joules: float) -> str:
    words = found.words()
    return f"\n{words:,.0f} numbers moved, weights and states, {words * joules * 1e6:.4g} uJ a sample more"


def _measured(source: Source, seed: int, batches: int) -> dict[tuple[int, int], float]:
    from bcgraph import compiler, data
    from bcgraph import weights as files
    from bcgraph.firing import measure

    network, path = source.spec, source.weights
    try:
        split = data.load(network.data, network.input, network.steps).test
    except DataError as error:
        raise DataError.of(replace(d, notes=(*d.notes, UNMEASURED)) for d in error.diagnostics) from None
    tensors = None if path is None else files.load(path, spec=network)
    model = compiler.compile(network, seed=seed)
    if tensors is None:
        drawn = f"a network drawn from seed {seed}, whose batch norms have seen no data"
        say(f"note: no weights are given: firing rates are those of {drawn}")
    else:
        files.apply(model, tensors)
    return measure(model, islice(split.batches(network.data.batch), batches))


def _text(found: Profile, accumulate: float, multiply_accumulate: float, scales: dict[Place, float]) -> str:
    def costs(*layers: Layer) -> list[str]:
        if not found.measured:
            return []
        rates = found.rates
        (one,) = layers if len(layers) == 1 else (None,)
        sparse = None if one is None else one.sparsity(rates)
        energy = sum(found.energy(layer, accumulate, multiply_accumulate) for layer in layers)
        spent = [f"{sum(layer.synaptic(rates) for layer in layers):,.0f}", _nano(energy)]
        return spent if not by_layer else ["-" if sparse is None else f"{sparse:.1%}", *spent]

    by_layer = True
    measured = ["synaptic/sample", "nJ/sample"] if found.measured else []
    layers: list[list[object]] = [
        [layer.name, _reads(layer), f"{layer.parameters:,}", f"{layer.operations:,}", layer.steps, *costs(layer)]
        for layer in found.layers
    ]
    sparsity = ["sparsity"] if found.measured else []
    header = ["layer", "reads", "parameters", "operations/step", "steps", *sparsity, *measured]
    parts = [_table(header, layers, left=2)]
    by_layer = False
    if found.connections:
        connections: list[list[object]] = [
            [
                f"@{each.source} -> @{each.target}",
                each.delay,
                *([f"{scales[each.place]:.2f}" if each.place in scales else "-"] if scales else []),
                f"{each.parameters:,}",
                f"{each.operations:,}",
                f"{each.operations / (found.operations or 1):.2%}",
                f"{each.state_values:,}",
                *costs(*each.layers),
            ]
            for each in found.connections
        ]
        learned = ["scale"] if scales else []
        header = [
            "connection" if any(each.word == "forward" for each in found.connections) else "backward",
            "delay",
            *learned,
            "parameters",
            "operations/step",
            "of a step",
            "state values",
            *measured,
        ]
        parts.append(_table(header, connections, left=1))
    steps = [f"t={t}" for t in range(found.steps)]
    by_step = found.by_step(accumulate, multiply_accumulate)
    rows: list[list[object]] = [["operations", *(f"{cost.operations:,}" for cost in by_step)]]
    if found.measured:
        rows.append(["synaptic", *(f"{cost.synaptic:,.0f}" for cost in by_step)])
        rows.append(["nJ", *(_nano(cost.energy or 0.0) for cost in by_step)])
    parts.append(_table(["in step", *steps], rows, left=1))
    if found.measured:
        ports: list[list[object]] = [
            [f"@{number}", port.name, *(f"{rate:.3f}" for rate in port.rates)]
            for number, port in enumerate(found.ports)
        ]
        parts.append(_table(["port", "firing rate of", *steps], ports, left=2))
    totals = [
        f"{found.parameters:,} parameters, {found.operations:,} operations a step, {found.steps} steps",
        f"{found.state_values:,} values of state between steps, {4 * found.state_values:,} bytes in float32",
    ]
    if found.measured:
        data = found.as_data(accumulate, multiply_accumulate)
        totals.append(f"{data['synaptic']:,.0f} synaptic operations and {data['energy'] * 1e6:.4g} uJ a sample")
    return "\n\n".join([*parts, "\n".join(totals)])


def _table(header: list[str], rows: list[list[object]], left: int) -> str:
    """A table whose first `left` columns are words and whose others are numbers."""
    return table(header, rows, right=range(left, len(header)))


def _reads(layer: Layer) -> str:
    late = f" (-{layer.delay})" if layer.delay else ""
    return " + ".join(f"@{port}" for port in layer.ports) + late if layer.ports else "numbers"


def _nano(joules: float) -> str:
    return f"{joules * 1e9:,.2f}"
