"""What a specification says about the places of its text: shapes, ports and costs of layers and connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bcgraph import schema, shapes
from bcgraph.errors import Span
from bcgraph.projections import as_map
from bcgraph.shapes import Shape


@dataclass(frozen=True, slots=True)
class Placed:
    """A layer of the network: its full name, its shape, its port if it has one, and what it costs."""

    name: str
    shape: Shape
    port: int | None
    parameters: int
    operations: int
    neuron: schema.Neuron | None


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters, and multiply-accumulates of one sample and one step."""

    parameters: int
    operations: int

    def __str__(self) -> str:
        return f"{self.parameters:,} parameters, {self.operations:,} multiply-accumulates per sample and step"


def placed(spec: schema.NetworkSpec) -> Mapping[Span, Sequence[Placed]]:
    """The layers by the place of the call that made them: several where a block is called more than once."""
    found: dict[Span, list[Placed]] = {}
    numbers = {name: number for number, name in enumerate(spec.ports)}
    for layer, shape in shapes.walk(spec.backbone.body, spec.input.shape):
        if layer.span is None:
            continue
        neuron = layer.neuron if isinstance(layer, schema.NeuronLayer) else None
        one = Placed(
            layer.name,
            shapes.infer(layer, shape),
            numbers.get(layer.name),
            shapes.parameters(layer, shape, spec.steps),
            shapes.operations(layer, shape),
            neuron,
        )
        found.setdefault(layer.span, []).append(one)
    return found


def port_shapes(spec: schema.NetworkSpec) -> tuple[Shape, ...]:
    """The shapes of the ports."""
    return shapes.ports(spec.backbone, spec.input)


def total(spec: schema.NetworkSpec) -> Cost:
    """What the network costs, its connections included."""
    layers = [one for many in placed(spec).values() for one in many]
    costs = [Cost(one.parameters, one.operations) for one in layers]
    costs += [cost for each in spec.in_order if (cost := of_connection(each, spec)) is not None]
    return Cost(sum(c.parameters for c in costs), sum(c.operations for c in costs))


def of_connection(connection: schema.Connection, spec: schema.NetworkSpec) -> Cost | None:
    """What the projection of a connection costs; None where it does not fit."""
    known = port_shapes(spec)
    source, target = as_map(known[connection.source]), as_map(known[connection.target])
    body = (connection.through or spec.feedback).layers(source, target, spec.norm)
    if body is None:
        return None
    layers = list(shapes.walk(body, source))
    return Cost(
        sum(shapes.parameters(layer, shape, spec.steps) for layer, shape in layers),
        sum(shapes.operations(layer, shape) for layer, shape in layers),
    )
