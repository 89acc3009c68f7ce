"""Pictures of networks: ports as boxes in a row, backward connections as arcs over them (paper figures 7 and 8).

Forward connections run below the row.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from bcgraph import files
from bcgraph.errors import RunError
from bcgraph.schema import Connection, NetworkSpec, Place, Projection
from bcgraph.search.space.search_space import port_resolutions, port_shapes
from bcgraph.viz.picture.layout import layout
from bcgraph.viz.picture.request import COLORS as COLORS
from bcgraph.viz.picture.request import Request
from bcgraph.viz.picture.skeleton import skeleton
from bcgraph.viz.picture.svg import svg as _svg
from bcgraph.viz.picture.values import Picture

FORMATS = ("svg", "png")

# Of charts, equal text for equal input: no dates, no random ids.
STYLE: Any = {"svg.hashsalt": "bcgraph", "svg.fonttype": "path", "font.family": "DejaVu Sans"}

Scales: TypeAlias = Mapping[Place, float]
"""The learned scale of connections by their place."""


def draw(spec: NetworkSpec, path: str | os.PathLike[str] | None = None, *, scales: Scales | None = None) -> str | None:
    """Draw the network of `spec` with its connections to `path`, as SVG or PNG by its ending.

    Without a `path` the picture is returned, as the text of an `<svg>` element. Equal networks give equal SVG. With
    `scales` a line is the wider, the louder training has made its connection, and says how loud. Raises RunError (E084)
    for another ending or when the file cannot be written.
    """
    if path is None:
        return svg(spec, scales)
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise RunError("E084", f"`{path}` ends in neither .svg nor .png", hint="the ending chooses the format")
    files.write_bytes(path, render(spec, kind, scales))
    return None


def svg(spec: NetworkSpec, scales: Scales | None = None) -> str:
    """The picture as an `<svg>` element, for a page that holds it inline."""
    return _svg(picture(spec, scales))


def render(spec: NetworkSpec, kind: str, scales: Scales | None = None) -> bytes:
    """The picture as the content of a file."""
    if kind == "svg":
        return svg(spec, scales).encode()
    from bcgraph.viz.picture.png import png

    return png(picture(spec, scales))


def picture(spec: NetworkSpec, scales: Scales | None = None) -> Picture:
    """Where everything in the picture of a network stands."""
    shapes = port_shapes(spec)
    return layout(
        Request(
            title=_title(spec),
            ports=spec.ports,
            connections=spec.in_order,
            sizes=port_resolutions(spec),
            scales=scales or {},
            wiring=skeleton(spec.backbone.body),
            hover=[
                f"@{number} {name}: {'x'.join(map(str, shape))}, {spec.neuron_of(number).name}"
                for number, (name, shape) in enumerate(zip(spec.ports, shapes, strict=True))
            ],
        )
    )


def thumbnail(ports: Sequence[str], connections: Sequence[Connection]) -> str:
    """One architecture as an `<svg>` element, without the names of its ports."""
    return _svg(layout(Request("", ports, connections, names=False)))


def _title(spec: NetworkSpec) -> str:
    kinds = len(spec.backward)
    word = "connection" if kinds == 1 else "connections"
    forward = f", {len(spec.forward)} forward" if spec.forward else ""
    # A projection that the network gives to all is said once, here.
    plain = spec.feedback in (Projection(), Projection(gain=spec.feedback.gain or 0.0))
    through = "" if plain else f", {spec.feedback}"
    return f"{spec.name}: {kinds or 'no'} backward {word}{forward}{through}, T = {spec.steps}"
