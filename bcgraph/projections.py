"""What a connection is made of: the layers of its projection, where they stand and what reaches them.

A projection begins with what the source sends, a vector counting as maps of 1x1 and a signal as columns, and ends in
the shape of the target's current. Parameters are named after the connection (`bcgraph.names`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from bcgraph import schema, shapes
from bcgraph.errors import Span, SpecError
from bcgraph.schema import Maps
from bcgraph.shapes import Shape


def layers(spec: schema.NetworkSpec, connection: schema.Connection, prefix: str) -> schema.Body:
    """The layers of a connection with its gain, and with names that begin with `prefix`.

    Raises SpecError (E064) where the projection does not fit these ports.
    """
    source, target = maps(spec, connection)
    through = spec.through(connection)
    body = through.layers(source, target, spec.norm)
    if body is None:
        raise misfit(through, source, target, connection.span)
    if (error := fits(body, source, target, connection.span)) is not None:
        raise error
    if connection.gain is not None:
        body = schema.with_gain(body, connection.gain)
    body = _without_idle_resizes(body, source)

    def place(layer: schema.LayerNode) -> schema.LayerNode:
        return dataclasses.replace(layer, name=f"{prefix}.{layer.name}", span=layer.span or connection.span)

    return schema.changed(body, place)


def maps(spec: schema.NetworkSpec, connection: schema.Connection) -> tuple[Maps, Maps]:
    """What reaches the projection of a connection, and what it ends in."""
    ports = shapes.ports(spec.backbone, spec.input)
    return as_map(ports[connection.source]), as_map(ports[connection.target])


def operations(spec: schema.NetworkSpec, connection: schema.Connection) -> int:
    """Multiply-accumulates of one sample and one step in the projection of a connection."""
    return shapes.run_operations(layers(spec, connection, ""), maps(spec, connection)[0])


def parameters(spec: schema.NetworkSpec, connection: schema.Connection) -> int:
    """Trained values in the projection of a connection."""
    return sum(shapes.parameters(layer, shape, spec.steps) for layer, shape in walk(spec, connection, ""))


def _without_idle_resizes(body: schema.Body, shape: Shape) -> schema.Body:
    """The layers without what resizes to the size that is there already."""
    kept: list[schema.LayerNode] = []
    for layer in body:
        if not (isinstance(layer, schema.Resize) and layer.size == shape[1:]):
            kept.append(layer)
        shape = shapes.infer(layer, shape)
    return tuple(kept)


def as_map(shape: Shape) -> Maps:
    """What a projection reads: the maps of a port, `(F, 1, 1)` for a vector, `(C, L, 1)` for a signal."""
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width


def fits(body: schema.Body, source: Maps, target: Maps, span: Span | None = None) -> SpecError | None:
    """E064 unless the layers of a projection end in the shape of the target's current; else None.

    Layers that do not fit each other are an error of their own.
    """
    try:
        end = shapes.run(body, source)
    except SpecError as error:
        return error
    if as_map(end) == target:
        return None
    return SpecError(
        "E064",
        f"the projection ends in {shapes.text(end)}, but the current of the target is {shapes.text(target)}",
        span=span,
        hint="`channels` is the target's, and `resize(nearest)` goes to its height and width",
    )


def misfit(through: schema.Through, source: Maps, target: Maps, span: Span | None = None) -> SpecError:
    """E064 for a block that has no meaning between ports of these maps."""
    pair = f"from {shapes.text(source)} to {shapes.text(target)}"
    hint = "its layers have to lead from what the source sends to the channels, height and width of the target"
    return SpecError("E064", f"`{through}` does not fit a connection {pair}", span=span, hint=hint)


def walk(
    spec: schema.NetworkSpec, connection: schema.Connection, prefix: str
) -> Iterator[tuple[schema.LayerNode, Shape]]:
    """Every layer of a connection with the shape that reaches it, in the order of the data."""
    source = as_map(shapes.ports(spec.backbone, spec.input)[connection.source])
    return shapes.walk(layers(spec, connection, prefix), source)


def scale_of(spec: schema.NetworkSpec, connection: schema.Connection, prefix: str) -> str | None:
    """The name of the scale that says how loud a connection is, that of its last norm; None where it has no norm."""
    last = schema.last_norm(layers(spec, connection, prefix))
    return None if last is None else f"{last.name}.weight"
