"""A picture as the text of an SVG: texts stay texts, colors follow a reader's dark mode, and hovering names things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from bcgraph.viz.picture import metrics
from bcgraph.viz.picture.values import Arc, Picture, Point, Text

_RADIUS = 5.0
_SMALL, _ENLARGED = 480.0, 1.25
"""A picture below this width is shown larger."""

_HEAD = (2.8, 6.0)

# Drawn in the light colors where style sheets are not read.
_STYLE = (
    "@media (prefers-color-scheme: dark) {"
    " .bcg-page { fill: #16181c } .bcg-band { fill: #22262c } .bcg-box { fill: #16181c; stroke: #d8d8d4 }"
    " .bcg-strong { fill: #d8d8d4; stroke: #d8d8d4 } .bcg-ink { fill: #d8d8d4 } .bcg-inverse { fill: #16181c }"
    " .bcg-wire { stroke: #6c6c6a } }"
    " .bcg-arc:hover path, .bcg-arc:focus path { stroke-width: 3.2 } .bcg-arc { outline: none }"
)
INK, FAINT, BAND, WIRE = "#333333", "#6f6f6b", "#f1f1ee", "#a2a29d"


def svg(picture: Picture) -> str:
    """The picture as an `<svg>` element."""
    return _page(picture.title, picture.width, picture.height, _parts(picture))


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture among others: its title above, a note below."""

    title: str
    picture: Picture
    note: str = ""


_PANEL_TITLE, _PANEL_NOTE, _SPACE = 9.0, 7.5, 14.0


def compose(panels: Sequence[Panel], columns: int) -> str:
    """Several pictures as one `<svg>` element, row by row."""
    width = max(
        max(p.picture.width, metrics.width(p.title, _PANEL_TITLE), metrics.width(p.note, _PANEL_NOTE)) for p in panels
    )
    body, y = [], 0.0
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        below = y + 2 * _PANEL_TITLE + max(p.picture.height for p in row)
        for column, panel in enumerate(row):
            x = column * (width + _SPACE) + _SPACE / 2
            title = Text(x, y + 1.5 * _PANEL_TITLE, panel.title, _PANEL_TITLE, "title")
            note = [Text(x, below + _PANEL_NOTE, panel.note, _PANEL_NOTE, "title")] if panel.note else []
            # The rows of ports stand on one line.
            top = below - panel.picture.height
            body += [_text(t) for t in (title, *note)]
            body.append(f'<g transform="translate({_n(x)} {_n(top)})">{"".join(_parts(panel.picture))}</g>')
        y = below + 2 * _PANEL_NOTE
    return _page("", columns * (width + _SPACE), y, body)


def _page(title: str, width: float, height: float, body: Sequence[str]) -> str:
    wide, high = _n(width), _n(height)
    scale = _ENLARGED if width < _SMALL else 1.0
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(scale * width)}pt" height="{_n(scale * height)}pt"'
        f' viewBox="0 0 {wide} {high}"'
        f' style="max-width: 100%; height: auto" role="img" font-family="{metrics.FONT}, Verdana, sans-serif">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="bcg-page" width="{wide}" height="{high}" fill="white"/>',
        *body,
    ]
    return "\n".join([*lines, "</svg>", ""])


def _parts(picture: Picture) -> list[str]:
    """The elements of a picture, those behind first."""
    lines = []
    for left, top, right, bottom in picture.bands:
        lines.append(f'<rect class="bcg-band" {_rect(left, top, right, bottom)} fill="{BAND}"/>')
    wires = "".join(f"M{_p(w.start)}L{_p(w.end)}" for w in picture.wires)
    lines.append(f'<path class="bcg-wire" d="{wires}" fill="none" stroke="{WIRE}" stroke-width="1.2"/>')
    lines += [_arc(arc) for arc in picture.arcs]
    for box in picture.boxes:
        kind, fill = ("bcg-strong", INK) if box.strong else ("bcg-box", "white")
        lines.append(
            f'<rect class="{kind}" data-port="{box.port}" {_rect(*box.bounds)} rx="3" fill="{fill}" stroke="{INK}">'
            f"<title>{escape(box.title)}</title></rect>"
        )
    return lines + [_text(text) for text in picture.texts]


def _text(text: Text) -> str:
    kind, fill = "bcg-ink", INK
    if text.color:
        kind, fill = "bcg-label", text.color
    elif text.strong:
        kind, fill = "bcg-inverse", "white"
    elif text.role == "faint":
        kind, fill = "bcg-faint", FAINT
    weight = ' font-weight="bold"' if text.role == "number" else ""
    long = _n(metrics.width(text.content, text.size))
    return (
        f'<text class="{kind}" x="{_n(text.x)}" y="{_n(text.y)}" font-size="{_n(text.size)}" fill="{fill}"{weight}'
        f' textLength="{long}" lengthAdjust="spacingAndGlyphs" pointer-events="none">{escape(text.content)}</text>'
    )


def _arc(arc: Arc) -> str:
    word, source, target, delay = arc.place
    body = f'<path d="{curve(arc)}" fill="none" stroke="{arc.color}" stroke-width="{_n(arc.width)}"/>'
    if arc.head:
        body += f'<polygon points="{" ".join(_p(p) for p in head(arc))}" fill="{arc.color}"/>'
    place = f"{word} {source} {target} {delay}"
    return f'<g class="bcg-arc" data-place={quoteattr(place)}><title>{escape(arc.title)}</title>{body}</g>'


def curve(arc: Arc) -> str:
    """The line of an arc as the `d` of a path: straight, with rounded corners."""
    parts = [f"M{_p(arc.points[0])}"]
    for before, corner, after in zip(arc.points, arc.points[1:], arc.points[2:], strict=False):
        parts.append(f"L{_p(toward(corner, before))}Q{_p(corner)} {_p(toward(corner, after))}")
    end = arc.points[-1]
    if arc.head:
        end = toward(end, arc.points[-2], _HEAD[1] - 1.0)
    return "".join(parts) + f"L{_p(end)}"


def toward(start: Point, end: Point, distance: float = _RADIUS) -> Point:
    """The point `distance` from `start` to `end`, half of the way at most."""
    long = abs(end[0] - start[0]) + abs(end[1] - start[1])
    part = min(distance / long, 0.5) if long else 0.0
    return (start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1]))


def head(arc: Arc) -> tuple[Point, Point, Point]:
    """The three corners of an arrow at the end of an arc, which comes from above or below."""
    (x, y), (_, before) = arc.points[-1], arc.points[-2]
    back = y - _HEAD[1] if before < y else y + _HEAD[1]
    return (x, y), (x - _HEAD[0], back), (x + _HEAD[0], back)


def _rect(left: float, top: float, right: float, bottom: float) -> str:
    return f'x="{_n(left)}" y="{_n(top)}" width="{_n(right - left)}" height="{_n(bottom - top)}"'


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _p(point: Point) -> str:
    return f"{_n(point[0])} {_n(point[1])}"
