"""A picture as the bytes of a PNG, drawn by matplotlib."""

from __future__ import annotations

import io
import math
import warnings

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path

from bcgraph.errors import BcgraphWarning
from bcgraph.viz.picture.metrics import FONT
from bcgraph.viz.picture.svg import BAND, FAINT, INK, WIRE, head, toward
from bcgraph.viz.picture.values import Arc, Picture
from bcgraph.viz.styled import styled

DPI = 150
MAX_PIXELS = 40_000_000
"""Of a PNG: 160 MB while it is drawn."""


def png(picture: Picture) -> bytes:
    """The picture at 150 pixels an inch; a large one has fewer, and a BcgraphWarning says so."""
    dpi = _dpi(picture.width / 72, picture.height / 72)
    with styled({"font.family": FONT}):
        figure = Figure(figsize=(picture.width / 72, picture.height / 72))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, picture.width)
        axes.set_ylim(picture.height, 0)
        axes.axis("off")
        for left, top, right, bottom in picture.bands:
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, facecolor=BAND, linewidth=0))
        for wire in picture.wires:
            axes.plot(*zip(wire.start, wire.end, strict=True), color=WIRE, linewidth=1.2)
        for arc in picture.arcs:
            axes.add_patch(PathPatch(_curve(arc), facecolor="none", edgecolor=arc.color, linewidth=arc.width))
            if arc.head:
                axes.add_patch(Polygon(head(arc), facecolor=arc.color, linewidth=0))
        for box in picture.boxes:
            left, top, right, bottom = box.bounds
            fill = INK if box.strong else "white"
            style = "round,pad=0,rounding_size=3"
            corner, width, height = (left, top), right - left, bottom - top
            axes.add_patch(
                FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=fill, edgecolor=INK, zorder=3)
            )
        for text in picture.texts:
            color = text.color or ("white" if text.strong else FAINT if text.role == "faint" else INK)
            axes.text(text.x, text.y, text.content, fontsize=text.size, color=color, zorder=4, va="baseline")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
        return stream.getvalue()


def _dpi(width: float, height: float) -> float:
    """Pixels an inch: fewer where a picture of many ports would take gigabytes."""
    dpi = min(DPI, math.sqrt(MAX_PIXELS / (width * height)))
    if dpi < DPI:
        message = f"the picture has {dpi:.0f} pixels an inch instead of {DPI}, as it is large; .svg stays sharp"
        warnings.warn(message, BcgraphWarning, stacklevel=2)
    return dpi


def _curve(arc: Arc) -> Path:
    points, codes = [arc.points[0]], [Path.MOVETO]
    for before, corner, after in zip(arc.points, arc.points[1:], arc.points[2:], strict=False):
        points += [toward(corner, before), corner, toward(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    end = toward(arc.points[-1], arc.points[-2], 5.0) if arc.head else arc.points[-1]
    return Path([*points, end], [*codes, Path.LINETO])
