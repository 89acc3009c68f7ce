"""Pictures of architectures: the ports in a row, backward connections as arcs over them (paper figures 7 and 8).

Forward connections are arcs below the row.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, PathPatch
from matplotlib.path import Path as Curve

from bcgraph import files
from bcgraph.equations.neuron import SPIKES
from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.schema import BackwardConnection, Connection, ForwardConnection, NetworkSpec, Place, Projection
from bcgraph.search.space.search_space import port_resolutions

FORMATS = ("svg", "png")
DPI = 150
MAX_PIXELS = 40_000_000
"""Of a PNG: 160 MB while it is drawn."""

# Colors that stay apart for color-blind readers (Okabe and Ito); connections beyond the last begin anew.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

_INK, _FAINT, _BAND = "#333333", "#9A9A9A", "#F1F1EE"
_RADIUS = 0.19
_WIDTH = 1.8
# Equal text for equal input: no dates, no random ids.
STYLE: Any = {"svg.hashsalt": "bcgraph", "svg.fonttype": "path", "font.family": "DejaVu Sans"}


Scales: TypeAlias = Mapping[Place, float]
"""The learned scale of connections by their place."""


def draw(spec: NetworkSpec, path: str | os.PathLike[str] | None = None, *, scales: Scales | None = None) -> str | None:
    """Draw the network of `spec` with its backward connections to `path`, as SVG or PNG by its ending.

    Without a `path` the picture is returned, as the text of an `<svg>` element. Equal networks give equal SVG. With
    `scales` a line is the wider, the louder training has made its connection, and says how loud. Raises RunError (E084)
    for another ending or when the file cannot be written.
    """
    if path is None:
        return svg(spec, scales)
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise RunError("E084", f"`{path}` ends in neither .svg nor .png", hint="the ending chooses the format")
    data = render(spec, kind, scales)
    files.write_bytes(path, data)
    return None


def svg(spec: NetworkSpec, scales: Scales | None = None) -> str:
    """The picture as an `<svg>` element, for a page that holds it inline."""
    text = render(spec, "svg", scales).decode()
    return text[text.index("<svg") :]


def render(spec: NetworkSpec, kind: str, scales: Scales | None = None) -> bytes:
    """The picture as the content of a file."""
    with mpl.rc_context(STYLE):
        figure = _figure(spec, scales or {})
        stream = io.BytesIO()
        dpi = _dpi(figure) if kind == "png" else DPI
        figure.savefig(stream, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else {"Software": None})
        return stream.getvalue()


def _dpi(figure: Figure) -> float:
    """Pixels an inch: fewer where a picture of many ports would take gigabytes."""
    width, height = figure.get_size_inches()
    dpi = min(DPI, math.sqrt(MAX_PIXELS / (width * height)))
    if dpi < DPI:
        message = f"the picture has {dpi:.0f} pixels an inch instead of {DPI}, as it is large; .svg stays sharp"
        warnings.warn(message, BcgraphWarning, stacklevel=2)
    return dpi


def plot(
    axes: Axes,
    ports: Sequence[str],
    backward: Iterable[BackwardConnection | tuple[int, int]],
    *,
    forward: Iterable[ForwardConnection] = (),
    sizes: Sequence[tuple[int, int]] = (),
    labels: bool = True,
    scales: Scales | None = None,
) -> None:
    """Draw ports and connections into `axes`, which are cleared of their frame.

    Port i stands at x = i, y = 0. `sizes` (height and width of each port) shades stretches of one resolution;
    `labels` writes the names of the ports; `scales` sets the widths of lines.
    """
    above = sorted(bc if isinstance(bc, BackwardConnection) else BackwardConnection(bc[0], bc[1]) for bc in backward)
    below = sorted(forward)
    count = len(ports)
    top = _height(above) + 0.5
    depth = _depth(below)
    low = -0.5 - depth - (_label_room(ports) if labels else 0.0)
    _bands(axes, sizes, top)
    axes.plot([0, count - 1], [0, 0], color=_FAINT, linewidth=1.4, zorder=1)
    loudest = max((scales or {}).values(), default=0.0)
    connections: list[Connection] = [*above, *below]
    heights = [*_heights(above), *_heights(below)]
    for place, (each, height) in enumerate(zip(connections, heights, strict=True)):
        scale = (scales or {}).get(each.place)
        width = _WIDTH if scale is None else _WIDTH * (0.3 + 1.7 * scale / (loudest or 1.0))
        _arc(axes, each, height, COLORS[place % len(COLORS)], width, "" if scale is None else f", scale {scale:.2f}")
    ends = {p for each in connections for p in (each.source, each.target)}
    for number, name in enumerate(ports):
        _port(axes, number, name if labels else "", depth, strong=number in ends)
    axes.set_xlim(-0.75, count - 0.25)
    axes.set_ylim(low, top)
    axes.set_aspect("equal")
    axes.axis("off")


def _figure(spec: NetworkSpec, scales: Scales) -> Figure:
    count = len(spec.ports)
    heights = _height(spec.backward) + 1.0 + _label_room(spec.ports)
    heights += _depth(spec.forward)
    unit = 0.62 if count > 10 else 0.8
    figure = Figure(figsize=(max(3.6, unit * (count + 0.5)), unit * heights + 0.45), layout="constrained")
    axes = figure.add_subplot()
    # A projection that the network gives to all is said once, by the title.
    plot(axes, spec.ports, spec.backward, forward=spec.forward, sizes=port_resolutions(spec), scales=scales)
    kinds = len(spec.backward)
    word = "connection" if kinds == 1 else "connections"
    forward = f", {len(spec.forward)} forward" if spec.forward else ""
    through = (
        "" if spec.feedback in (Projection(), Projection(gain=spec.feedback.gain or 0.0)) else f", {spec.feedback}"
    )
    title = f"{spec.name}: {kinds or 'no'} backward {word}{forward}{through}, T = {spec.steps}"
    axes.set_title(title, fontsize=10, color=_INK, loc="left")
    return figure


def _heights(connections: Sequence[Connection]) -> list[float]:
    """How far the arc of each connection is from the row; of several between the same ports each is further."""
    found: list[float] = []
    seen: Counter[tuple[int, int]] = Counter()
    for each in connections:
        ends = each.source, each.target
        length = abs(each.source - each.target)
        found.append((0.95 if length == 0 else 0.5 + 0.24 * length) + 0.35 * seen[ends])
        seen[ends] += 1
    return found


def _height(connections: Iterable[BackwardConnection]) -> float:
    """How much room the arcs above the row take."""
    return max(_heights(sorted(connections)), default=0.4)


def _depth(connections: Iterable[ForwardConnection]) -> float:
    """How much room the arcs below the row take, with what is written under them."""
    return max((height + 0.35 for height in _heights(sorted(connections))), default=0.0)


def _label_room(ports: Sequence[str]) -> float:
    return 0.062 * max((len(p) for p in ports), default=0)


def _port(axes: Axes, number: int, name: str, depth: float, *, strong: bool) -> None:
    axes.scatter(
        [number],
        [0],
        s=190,
        facecolor=_INK if strong else "white",
        edgecolor=_INK,
        linewidth=1.2,
        zorder=4,
    )
    color = "white" if strong else _INK
    axes.text(number, -0.01, str(number), ha="center", va="center", fontsize=7.5, color=color, zorder=5)
    if name:
        axes.text(
            number + 0.08,
            -0.32 - depth,
            name,
            ha="right",
            va="top",
            rotation=40,
            rotation_mode="anchor",
            fontsize=7.5,
            color=_INK,
        )


def _note(connection: Connection) -> str:
    """What is not the paper's of a connection: delay, kernel or block, join, and what it reads."""
    found = [f"delay {connection.delay}"] if connection.delay != 1 else []
    through = connection.through
    if isinstance(through, Projection):
        found += [f"{through.kernel}\N{MULTIPLICATION SIGN}{through.kernel}"] if through.kernel != 1 else []
    elif through is not None:
        found.append(through.call.name)
    found += ["times"] if connection.join == "mul" else []
    found += [f"reads {connection.read}"] if connection.read != SPIKES else []
    return "".join(f", {each}" for each in found)


def _arc(axes: Axes, connection: Connection, height: float, color: str, width: float, note: str) -> None:
    source, target = connection.source, connection.target
    text = f"{source}\N{RIGHTWARDS ARROW}{target}{_note(connection)}{note}"
    side = -1 if isinstance(connection, ForwardConnection) else 1
    if source == target:
        x, spread = source, 0.42
        points = [(x + 0.12, _RADIUS), (x + spread, height * 1.2), (x - spread, height * 1.2), (x - 0.12, _RADIUS)]
        at = (float(x), height)
    else:
        # A cubic with both handles at 4/3 of the height peaks at the height.
        peak = side * height * 4 / 3
        points = [(source, side * _RADIUS), (source, peak), (target, peak), (target, side * _RADIUS)]
        at = ((source + target) / 2, side * (height + 0.07))
    curve = Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
    axes.add_patch(PathPatch(curve, facecolor="none", edgecolor=color, linewidth=width, zorder=2))
    tip, before = points[3], points[2]
    direction = (tip[0] - before[0], tip[1] - before[1])
    length = (direction[0] ** 2 + direction[1] ** 2) ** 0.5
    start = (tip[0] - 0.05 * direction[0] / length, tip[1] - 0.05 * direction[1] / length)
    head = FancyArrowPatch(
        start, tip, arrowstyle="-|>", mutation_scale=12, color=color, shrinkA=0, shrinkB=0, linewidth=0, zorder=3
    )
    axes.add_patch(head)
    axes.text(
        at[0],
        at[1],
        text,
        ha="center",
        va="bottom" if side > 0 else "top",
        fontsize=8,
        color=color,
        zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.75},
    )


def _bands(axes: Axes, sizes: Sequence[tuple[int, int]], top: float) -> None:
    """Shade every other stretch of ports of one resolution, and say which it is."""
    start = 0
    for stretch, end in enumerate(i for i in range(1, len(sizes) + 1) if i == len(sizes) or sizes[i] != sizes[i - 1]):
        if stretch % 2 == 0:
            axes.axvspan(start - 0.5, end - 0.5, color=_BAND, linewidth=0, zorder=0)
        axes.text(
            (start + end - 1) / 2,
            top,
            f"{sizes[start][0]}\N{MULTIPLICATION SIGN}{sizes[start][1]}",
            ha="center",
            va="top",
            fontsize=7,
            color=_FAINT,
        )
        start = end
