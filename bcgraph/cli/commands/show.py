"""`bcgraph show`: what a file describes, as tables, as data, or as its temporal graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from bcgraph.cli.inputs import JsonOption, SetOption, Source, read_source
from bcgraph.cli.output import count, emit, emit_json, say, table
from bcgraph.equations.neuron import SPIKES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bcgraph.compiler.ir import TemporalGraph
    from bcgraph.schema import NetworkSpec, Place


def show_command(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="SPEC_OR_RUN",
            help="A .bcg file, - for standard input, the directory of a run, or an exported file.",
        ),
    ],
    graph: Annotated[bool, typer.Option("--graph", help="Print the temporal graph: one node a line.")] = False,
    passes: Annotated[
        bool, typer.Option("--passes", help="Print the graph before and after each pass, with its cost.")
    ] = False,
    inference: Annotated[
        bool, typer.Option("--inference", help="With --passes: the passes for inference, not those for training.")
    ] = False,
    optimize: Annotated[
        str | None,
        typer.Option(
            "--optimize", metavar="NAMES", help="With --graph: apply these passes first, separated by commas."
        ),
    ] = None,
    settings: SetOption = [],  # noqa: B006  (never changed; typer wants a list)
    as_json: JsonOption = False,
) -> None:
    """Print what the compiler makes of the network; nothing is built, so this is quick at any size.

    Of an exported file it prints what the file says of its weights (accuracy, seed, license, author) as comments, then
    the specification that it was made of; with --json or --graph what that describes.
    """
    if inference and not passes:
        raise typer.BadParameter("it chooses the passes that --passes prints", param_hint="--inference")
    from bcgraph import exported

    more: dict[str, object] = {}
    if exported.is_exported(spec):
        from dataclasses import asdict

        from bcgraph.compiler.export import provenance

        found = exported.metadata(spec)
        text = found[exported.ENTRY]
        about = provenance.of_metadata(found)
        more = {"provenance": asdict(about)}
        if not (graph or passes or as_json or optimize is not None):
            emit("".join(f"# {line}\n" for line in about.lines()) + text, exact=True)
            return
        from bcgraph import dsl

        source = Source(dsl.parse(text, file=f"<{spec}>"))
    else:
        source = read_source(spec, settings).using()
        source.warn()
    from bcgraph.compiler.lower import lower
    from bcgraph.compiler.printer import graph_text

    network = source.spec
    lowered = lower(network)
    if passes:
        emit(_passes(lowered, inference))
    elif graph or optimize is not None:
        from bcgraph.compiler import passes as every

        names = [name.strip() for name in (optimize or "").split(",") if name.strip()]
        emit(graph_text(every.run(every.find(names), lowered)))
    elif as_json:
        emit_json(_data(network, lowered, source.scales()) | more)
    else:
        emit(_text(network, lowered, source.scales()))


def _passes(graph: TemporalGraph, inference: bool) -> str:
    """The graph as it is lowered and after each pass of the pipeline, under a line with what the pass did."""
    from bcgraph.compiler import passes, pipelines
    from bcgraph.compiler.analysis.cost import cost
    from bcgraph.compiler.printer import graph_text

    found = cost(graph)
    parts = [f"# lowered: {found.nodes} nodes, {_operations(found.operations)}", graph_text(graph)]
    for each in pipelines.chosen(None, inference):
        after = passes.run((each,), graph)
        before, found = found, cost(after)
        changes = f"{before.nodes} -> {found.nodes} nodes, {_operations(found.operations)}"
        parts.append(f"# {each.name}: {changes}" if after is not graph else f"# {each.name}: nothing to do")
        if after is not graph:
            parts.append(graph_text(after))
        graph = after
    return "\n".join(part.rstrip("\n") for part in parts)


def _operations(number: int) -> str:
    return f"{number:,} multiply-accumulates per sample"


def _port_shapes(network: NetworkSpec, graph: TemporalGraph) -> list[tuple[int, ...]]:
    values = graph.values()
    return [values[f"{name}.s"].shape for name in network.ports]


Scales: TypeAlias = "Mapping[Place, float]"


def _text(network: NetworkSpec, graph: TemporalGraph, scales: Scales) -> str:
    from bcgraph import shapes, spaces
    from bcgraph.profile import size
    from bcgraph.search.space.words import describe

    (parameters, operations), shape = size(network), network.input
    feeds: dict[int, list[str]] = {}
    for each in network.in_order:
        notes = [f"delay {each.delay}"] if each.delay != 1 else []
        gain = network.gain(each)
        notes += [f"gain {gain:g}"] if gain is not None and gain != 1.0 else []
        notes += [str(each.through)] if each.through is not None else []
        notes += ["times the current"] if each.join == "mul" else []
        notes += [f"reads {each.read}"] if each.read != SPIKES else []
        notes += [f"scale {scales[each.place]:.2f}"] if each.place in scales else []
        feeds.setdefault(each.target, []).append(f"@{each.source}" + (f" ({', '.join(notes)})" if notes else ""))
    ports = [
        (f"@{number}", name, shapes.text(found), ", ".join(feeds.get(number, [])))
        for number, (name, found) in enumerate(zip(network.ports, _port_shapes(network, graph), strict=True))
    ]
    head = [
        f"network   {network.name}",
        f"input     {shape.kind} {shapes.text(shape.shape)}, {count(network.steps, 'step')}, readout {network.readout}",
        f"backbone  {network.backbone.call}",
        f"size      {count(parameters, 'parameter')}, {count(operations, 'multiply-accumulate')} per sample and step",
    ]
    first, *rest = describe(network)
    head += [f"space     {first}", *(f"          {line}" for line in rest)]
    for note in spaces.idle_delays(network):
        say(f"note: {note}")
    kind = "connections" if network.forward else "backward connections"
    return "\n".join([*head, "", table(("port", "name", "shape", f"{kind} from"), ports)])


def _scale(place: Place, scale: float, network: NetworkSpec) -> dict[str, Any]:
    word, source, target, delay = place
    several = len({each.key[:2] for each in network.backward}) < len(network.backward)
    more = {"connection": word, "delay": delay} if several or network.forward else {}
    return {"source": source, "target": target, **more, "scale": scale}


def _data(network: NetworkSpec, graph: TemporalGraph, scales: Scales) -> dict[str, Any]:
    from bcgraph.profile import size

    parameters, operations = size(network)
    return {
        "name": network.name,
        "fingerprint": network.fingerprint(),
        "ports": [
            {"number": number, "name": name, "shape": list(shape)}
            for number, (name, shape) in enumerate(zip(network.ports, _port_shapes(network, graph), strict=True))
        ],
        "scales": [_scale(place, scale, network) for place, scale in scales.items()],
        "parameters": parameters,
        "operations": operations,
        "spec": network.model_dump(mode="json"),
    }
