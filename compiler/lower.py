"""From a specification to its temporal graph.

Each layer becomes a node with the shape it computes; a layer of neurons becomes a node for each of its equations, whose
states are edges of delay 1; a backward connection becomes a projection whose reader has an edge with the
connection's delay (paper eq. 6). The delay stands after the projection, so that before step d it adds exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bcgraph import schema, shapes
from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value, free
from bcgraph.compiler.ops import OPS, Trait, attributes
from bcgraph.compiler.verify import verify
from bcgraph.equations.expression import reads
from bcgraph.equations.neuron import CURRENT, SPIKES
from bcgraph.errors import Span
from bcgraph.names import projection


def lower(spec: schema.NetworkSpec) -> TemporalGraph:
    """The temporal graph of `spec`, verified. Raises CompileError when it cannot run."""
    builder = _Builder(spec)
    end = builder.body(spec.backbone.body, builder.input)
    builder.connections()
    graph = TemporalGraph(
        name=spec.name,
        steps=spec.steps,
        sequence=spec.input.kind == "sequence",
        inputs=(Value(builder.input, builder.shape[builder.input]),),
        nodes=tuple(builder.nodes),
        outputs=(end,),
        ports=spec.ports,
    )
    verify(graph)
    return graph


# By the number of axes of a port, the name of the last node of a projection to it.
_AS = {1: "vector", 2: "signal", 3: "bn"}


class _Builder:
    def __init__(self, spec: schema.NetworkSpec) -> None:
        image = spec.input
        self.spec = spec
        self.nodes: list[Node] = []
        self.input = free("x", {layer.name for layer in schema.walk(spec.backbone.body)})
        self.shape: dict[str, shapes.Shape] = {self.input: image.shape}
        self.port = 0
        self.currents: dict[int, shapes.Shape] = {}
        self.into: dict[int, list[schema.BackwardConnection]] = {}
        for bc in sorted(spec.backward):
            self.into.setdefault(bc.target, []).append(bc)

    def emit(
        self,
        name: str,
        op: str,
        inputs: tuple[Edge, ...],
        shape: shapes.Shape,
        *,
        module: str | None = None,
        port: int | None = None,
        span: Span | None = None,
        **attrs: Any,
    ) -> str:
        value = Value(name, shape)
        self.nodes.append(Node(name, op, inputs, (value,), attributes(**attrs), module, port, span=span))
        self.shape[name] = shape
        return name

    def body(self, body: schema.Body, value: str) -> str:
        for layer in body:
            value = _LAYERS[type(layer)](self, layer, value)
        return value

    def connections(self) -> None:
        for bc in sorted(self.spec.backward):
            self._connection(bc)

    def _connection(self, bc: schema.BackwardConnection) -> None:
        name = projection(bc.source, bc.target)
        spikes = f"{self.spec.ports[bc.source]}.s"
        target = self.currents[bc.target]
        shape = self.shape[spikes]
        size = shapes.spatial(target)
        if len(shape) < 3:
            shape = (*shape, 1, 1)[:3]
            spikes = self.emit(f"{name}.image", "to_image", (Edge(spikes),), shape, span=bc.span)
        if shape[1:] != size:
            shape = (shape[0], *size)
            spikes = self.emit(f"{name}.resize", "resize", (Edge(spikes),), shape, span=bc.span, size=size)
        conv = schema.Conv(name=f"{name}.conv", channels=target[0], kernel=1, span=bc.span)
        shape = shapes.infer(conv, shape)
        value = self.emit(conv.name, "conv", (Edge(spikes),), shape, module=conv.name, span=bc.span, layer=conv)
        settings = replace(self.spec.norm, gain=self.spec.gain(bc))
        norm = schema.BatchNorm(name=f"{name}.bn", norm=settings, span=bc.span)
        value = self.emit(norm.name, "bn", (Edge(value),), shape, module=norm.name, span=bc.span, layer=norm)
        if len(target) < 3:
            as_target = _AS[len(target)]
            self.emit(f"{name}.{as_target}", f"to_{as_target}", (Edge(value),), target, span=bc.span)

    def layer(self, layer: Any, value: str) -> str:
        shape = shapes.infer(layer, self.shape[value])
        # Passes on convolutions are for images.
        op = "conv1d" if layer.kind == "conv" and len(shape) == 2 else layer.kind
        module = layer.name if OPS[op].has(Trait.PARAMETERS) else None
        return self.emit(layer.name, op, (Edge(value),), shape, module=module, span=layer.span, layer=layer)

    def neuron(self, layer: schema.NeuronLayer, value: str) -> str:
        port, self.port = self.port, self.port + 1
        shape = self.shape[value]
        name = layer.name
        arriving = self.into.get(port, [])
        if arriving:
            last = _AS[len(shape)]
            edges = tuple(Edge(projection(bc.source, bc.target, last), bc.delay) for bc in arriving)
            value = self.emit(f"{name}.current", "add", (Edge(value), *edges), shape, port=port, span=layer.span)
        self.currents[port] = shape
        equations = layer.neuron.equations
        fixed = set(equations.fixed)
        learned = {each.name for each in equations.learned}
        for given, expression in equations.body:
            keys = tuple(dict.fromkeys(read.key for read in reads(expression) if read.key not in fixed)) or (CURRENT,)
            delays = {read.key: read for read in reads(expression)}
            edges = tuple(
                Edge(value) if key == CURRENT else Edge(f"{name}.{delays[key].name}", delays[key].delay) for key in keys
            )
            trained = fixed & {read.key for read in reads(expression)}
            self.emit(
                f"{name}.{given}",
                "equation",
                edges,
                shape,
                module=name if trained and learned else None,
                port=port,
                span=layer.span,
                expression=expression,
                gives=given,
                layer=layer,
                reads=keys,
            )
        return f"{name}.{SPIKES}"

    def sum(self, layer: schema.Sum, value: str) -> str:
        return self._join(layer, "add", value)

    def concat(self, layer: schema.Concat, value: str) -> str:
        return self._join(layer, "concat", value)

    def product(self, layer: schema.Product, value: str) -> str:
        return self._join(layer, "mul", value)

    def _join(self, layer: schema.Join, op: str, value: str) -> str:
        ends = tuple(self.body(branch, value) for branch in layer.branches)
        if not ends:
            return value
        shape = shapes.infer(layer, self.shape[value])
        return self.emit(layer.name, op, tuple(map(Edge, ends)), shape, span=layer.span)


_LAYERS: dict[type, Callable[[_Builder, Any, str], str]] = {
    schema.Conv: _Builder.layer,
    schema.BatchNorm: _Builder.layer,
    schema.Linear: _Builder.layer,
    schema.Pool: _Builder.layer,
    schema.AdaptivePool: _Builder.layer,
    schema.Flatten: _Builder.layer,
    schema.Dropout: _Builder.layer,
    schema.Registered: _Builder.layer,
    schema.NeuronLayer: _Builder.neuron,
    schema.Sum: _Builder.sum,
    schema.Concat: _Builder.concat,
    schema.Product: _Builder.product,
    schema.Standard: _Builder.layer,
}
