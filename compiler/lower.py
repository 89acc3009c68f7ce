"""From a specification to its temporal graph.

Each layer becomes a node with the shape it computes; a layer of neurons becomes a node for each of its equations, whose
states are edges of delay 1; a connection becomes the layers of its projection, whose reader has an edge with the
connection's delay (paper eq. 6). The delay stands after the projection, so that before step d it adds exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bcgraph import projections, schema, shapes
from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value, free
from bcgraph.compiler.ops import OPS, Trait, attributes
from bcgraph.compiler.verify import verify
from bcgraph.equations.expression import reads
from bcgraph.equations.neuron import CURRENT, SPIKES
from bcgraph.errors import Span
from bcgraph.names import BACKWARD


def lower(spec: schema.NetworkSpec) -> TemporalGraph:
    """The temporal graph of `spec`, verified. Raises CompileError when it cannot run."""
    builder = _Builder(spec)
    end = builder.body(spec.backbone.body, builder.input)
    builder.backward()
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


class _Builder:
    def __init__(self, spec: schema.NetworkSpec) -> None:
        image = spec.input
        self.spec = spec
        self.nodes: list[Node] = []
        self.input = free("x", {layer.name for layer in schema.walk(spec.backbone.body)})
        self.shape: dict[str, shapes.Shape] = {self.input: image.shape}
        self.port = 0
        self.currents = shapes.ports(spec.backbone, spec.input)
        prefixes = spec.prefixes()
        # Where the values of each connection's projection are named, and its layers.
        self.projections = {
            each: (prefixes[each], projections.layers(spec, each, prefixes[each])) for each in spec.connections
        }
        self.into: dict[int, list[schema.Connection]] = {}
        for each in spec.in_order:
            self.into.setdefault(each.target, []).append(each)

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

    def backward(self) -> None:
        """The projections of backward connections, whose sources are all there now."""
        for each in self.spec.in_order:
            if each.word == BACKWARD:
                self.projection(each)

    def sent(self, connection: schema.Connection) -> str:
        """The name of the value that a connection reads."""
        return f"{self.spec.ports[connection.source]}.{connection.read}"

    def end(self, connection: schema.Connection) -> str:
        """The name of the value that a connection's projection ends in."""
        prefix, body = self.projections[connection]
        source, target = (self.currents[port] for port in (connection.source, connection.target))
        end = shapes.run(body, projections.as_map(source))
        if len(end) != len(target):
            return f"{prefix}.{_FORM[len(target)]}"
        if body:
            return body[-1].name
        return self.sent(connection) if len(source) == 3 else f"{prefix}.image"

    def projection(self, connection: schema.Connection) -> None:
        prefix, body = self.projections[connection]
        value = self.sent(connection)
        target = self.currents[connection.target]
        span = connection.span
        shape = self.shape[value]
        if len(shape) < 3:
            value = self.emit(f"{prefix}.image", "to_image", (Edge(value),), projections.as_map(shape), span=span)
        value = self.body(body, value)
        if len(self.shape[value]) != len(target):
            op = f"to_{_FORM[len(target)]}"
            self.emit(f"{prefix}.{_FORM[len(target)]}", op, (Edge(value),), target, span=span)

    def resize(self, layer: schema.Resize, value: str) -> str:
        shape = shapes.infer(layer, self.shape[value])
        return self.emit(layer.name, "resize", (Edge(value),), shape, span=layer.span, size=layer.size)

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
        arriving: dict[str, list[Edge]] = {join: [] for join, _, _ in _JOINS}
        for each in self.into.get(port, []):
            if isinstance(each, schema.ForwardConnection):
                # Its source is there already, and may be read at once.
                self.projection(each)
            arriving[each.join].append(Edge(self.end(each), each.delay))
        for join, op, part in _JOINS:
            if arriving[join]:
                inputs = (Edge(value), *arriving[join])
                value = self.emit(f"{name}.{part}", op, inputs, shape, port=port, span=layer.span)
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


# What arrives at a port is added to its current, and the sum is what is multiplied: the setting of a connection, the
# operation, and the name of its result.
_JOINS = (("add", "add", "current"), ("mul", "gate", "gated"))

# What a value of so many axes is called.
_FORM = {1: "vector", 2: "signal", 3: "image"}

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
    schema.Resize: _Builder.resize,
    schema.Sum: _Builder.sum,
    schema.Concat: _Builder.concat,
    schema.Product: _Builder.product,
    schema.Standard: _Builder.layer,
}
