"""Where everything in the picture of a network stands: a pure function from ports and connections to boxes and arcs.

Ports are boxes in columns. Backward connections run above them and forward connections below (paper figures 7 and 8
draw them so). Parallel branches lie in lanes one below the other. More ports than a row holds continue in a next row,
and an arc that leaves a row on the right comes in again on the left of the next.
"""

from __future__ import annotations

import math
from itertools import pairwise

from bcgraph.schema import Connection
from bcgraph.viz.picture import metrics, tracks
from bcgraph.viz.picture.columns import Columns, columns_of, rows_of
from bcgraph.viz.picture.notes import Label, labels
from bcgraph.viz.picture.request import (
    BETWEEN,
    COLORS,
    EDGE,
    FAINT,
    LABEL,
    LINE,
    NAME,
    NUMBER,
    TITLE,
    Request,
    above_row,
    size_text,
)
from bcgraph.viz.picture.skeleton import BOX, CUT, Skeleton, chain
from bcgraph.viz.picture.values import Arc, Bounds, Picture, Point, PortBox, Role, Text, Wire

_TRACK, _THIN, _STROKE = 12.0, 7.0, 1.7
"""The height of a track and of a lane without ports; the width of a line."""

_TITLE_WIDTH = 420.0
"""A longer title is wrapped, where the ports take no more room."""

_CLEAR = 11.0
"""Between a row and its first track: room for an arrow."""


def layout(request: Request) -> Picture:
    """The picture. Equal requests give equal pictures."""
    known = labels(request.connections, dict(request.scales))
    wiring = request.wiring or chain(len(request.ports))
    columns = columns_of(request, known)
    rows = rows_of(columns, wiring)
    paper = _Paper(request, known, wiring, columns)
    right = max(paper.width(a, b) for a, b in rows)
    right = max(right, min(_TITLE_WIDTH, metrics.width(request.title, TITLE) + 2 * EDGE) if request.title else 0.0)
    y = paper.heading(right)
    for a, b in rows:
        y = paper.row(a, b, y) + (EDGE if (a, b) != rows[-1] else 0.0)
    y = paper.legend(y, right)
    return Picture(
        width=_up(right),
        height=_up(y + EDGE / 2),
        title=request.title or f"{len(request.ports)} ports",
        bands=tuple(paper.bands),
        wires=tuple(paper.wires),
        boxes=tuple(paper.boxes),
        arcs=tuple(paper.arcs),
        texts=tuple(paper.texts),
    )


def _up(length: float) -> float:
    return float(math.ceil(length))


class _Paper:
    """Gathers what is drawn."""

    def __init__(self, request: Request, known: list[Label], wiring: Skeleton, columns: Columns) -> None:
        self.request, self.known, self.wiring, self.columns = request, known, wiring, columns
        self.bands: list[Bounds] = []
        self.wires: list[Wire] = []
        self.boxes: list[PortBox] = []
        self.arcs: list[Arc] = []
        self.texts: list[Text] = []
        self.shortened: set[int] = set()
        loudest = max(request.scales.values(), default=0.0) or 1.0
        self.strokes = [
            _STROKE * (0.3 + 1.7 * request.scales[c.place] / loudest) if c.place in request.scales else _STROKE
            for c in request.connections
        ]
        self.ends = {p for c in request.connections for p in (c.source, c.target)}

    def margin(self, a: int, b: int) -> float:
        """The room beside the ports of a row: more where arcs leave it."""
        leaves = any(self._crosses(c, cut) for c in self.request.connections for cut in (a, b))
        return EDGE + (self.columns.margin if leaves else 0.0)

    @staticmethod
    def _crosses(connection: Connection, cut: int) -> bool:
        low, high = sorted((connection.source, connection.target))
        return low < cut <= high

    def centers(self, a: int, b: int) -> dict[int, float]:
        """The x of the columns of a row."""
        found = {a: self.margin(a, b) + max(self.columns.widths[a] / 2, self._half_band(a))}
        for c in range(a + 1, b):
            found[c] = found[c - 1] + self.columns.steps[c - 1]
        return found

    def _half_band(self, port: int) -> float:
        sizes = self.request.sizes
        return metrics.width(size_text(sizes[port]), FAINT) / 2 + 2.0 if sizes else 0.0

    def width(self, a: int, b: int) -> float:
        """How wide a row is."""
        last = self.centers(a, b)[b - 1]
        return last + max(self.columns.widths[b - 1] / 2, self._half_band(b - 1)) + self.margin(a, b)

    def say(self, x: float, y: float, content: str, size: float, role: Role, color: str = "", **more: bool) -> None:
        """Write a line of text."""
        if content:
            self.texts.append(Text(x, y, content, size, role, color, **more))

    def heading(self, right: float) -> float:
        """The title. Returns the y below it."""
        y = EDGE / 2
        for line in metrics.wrap(_words(self.request.title), TITLE, right - 2 * EDGE):
            y += TITLE * 1.3
            self.say(EDGE, y - 0.4 * TITLE, line, TITLE, "title")
        return y + (4.0 if self.request.title else 0.0)

    def legend(self, y: float, right: float) -> float:
        """What did not fit on the arcs, below all rows. Returns the y below it."""
        for index in sorted(self.shortened):
            label = self.known[index]
            line = metrics.wrap(_words(f"{label.short}: {label.note}"), LABEL, right - 2 * EDGE)
            for each in line:
                y += LABEL * 1.4
                self.say(EDGE, y - 0.3 * LABEL, each, LABEL, "label", COLORS[index % len(COLORS)])
        return y

    def row(self, a: int, b: int, top: float) -> float:
        """Draw one row below `top`. Returns the y below it."""
        centers = self.centers(a, b)
        edges = (EDGE / 2, self.width(a, b) - EDGE / 2)
        pieces = {above: self._pieces(a, b, centers, edges, above=above) for above in (True, False)}
        placed = {s: tracks.place([p for _, p in found], *edges) for s, found in pieces.items()}
        depth = {s: max((p.track + 1 for p in found), default=0) * _TRACK for s, found in placed.items()}
        strip = FAINT * 1.5 if self.request.sizes else 0.0
        first = top + strip + depth[True] + (_CLEAR if depth[True] else 3.0)
        middles, height = self._lanes(a, b, first)
        last = first + height
        bottom = last + depth[False] + (_CLEAR + 2.0 if depth[False] else 4.0)
        self._shade(a, b, centers, edges, (top, bottom))
        self._wire(a, b, centers, edges, middles)
        half = self.columns.box_height / 2
        for port in range(a, b):
            self._port(port, centers[port], middles[self.wiring.lanes[port]], half)
        for above, found in pieces.items():
            start = first - _CLEAR if above else last + _CLEAR
            for (index, piece), where in zip(found, placed[above], strict=True):
                line = start - where.track * _TRACK if above else start + where.track * _TRACK
                self._arc(index, piece, where, line, centers, middles, half, (a, b))
        return bottom

    def _pieces(
        self, a: int, b: int, centers: dict[int, float], edges: tuple[float, float], *, above: bool
    ) -> list[tuple[int, tracks.Piece]]:
        """What of each connection on one side runs through this row."""
        found = []
        for index, each in enumerate(self.request.connections):
            low, high = sorted((each.source, each.target))
            if above_row(each) != above or high < a or low >= b:
                continue
            ups = []
            for end, port in enumerate((each.source, each.target)):
                if a <= port < b:
                    ups.append(centers[port] + self.columns.slots[index, end, above])
            left = min(ups) if low >= a else edges[0]
            right = max(ups) if high < b else edges[1]
            label = self.known[index]
            sizes = metrics.width(label.whole, LABEL), metrics.width(label.short, LABEL)
            found.append((index, tracks.Piece(left, right, tuple(ups), (high - low, index), *sizes)))
        return found

    def _lanes(self, a: int, b: int, top: float) -> tuple[dict[int, float], float]:
        """The y of the middle of each lane that this row uses, and the height of all."""
        used = {self.wiring.lanes[p] for p in range(a, b)}
        low, high = a + CUT, b + CUT
        beside = {w.lane for w in self.wiring.along if w.start < high and w.end > low}
        middles, y = {}, top
        for lane in sorted(used | beside):
            room = self.columns.box_height if lane in used else _THIN
            middles[lane] = y + room / 2
            y += room + (5.0 if lane in used else 0.0)
        return middles, max(y - top - 5.0, self.columns.box_height)

    def _x(self, position: float, centers: dict[int, float]) -> float:
        """The x of a position along the columns, by the boxes beside it."""
        column = math.floor(position)
        part = position - column
        if part < 1e-6:
            return centers[column] - self.columns.widths[column] / 2
        if abs(part - BOX) < 1e-6:
            return centers[column] + self.columns.widths[column] / 2
        meets = abs(part - 0.7) < 1e-6
        if meets:
            return centers[column] + self.columns.widths[column] / 2 + BETWEEN / 2 - 1.6
        return centers[column + 1] - self.columns.widths[column + 1] / 2 - BETWEEN / 2 + 1.6

    def _wire(
        self, a: int, b: int, centers: dict[int, float], edges: tuple[float, float], middles: dict[int, float]
    ) -> None:
        low, high = a + CUT, b + CUT
        for along in self.wiring.along:
            if along.end <= low or along.start >= high:
                continue
            left = edges[0] if along.start < low else self._x(along.start, centers)
            right = edges[1] if along.end > high else self._x(along.end, centers)
            self.wires.append(Wire((left, middles[along.lane]), (right, middles[along.lane])))
        for across in self.wiring.across:
            if low <= across.at < high:
                x = self._x(across.at, centers)
                self.wires.append(Wire((x, middles[across.start]), (x, middles[across.end])))

    def _port(self, port: int, x: float, y: float, half: float) -> None:
        width = self.columns.widths[port]
        strong = port in self.ends
        box = Bounds(x - width / 2, y - half, x + width / 2, y + half)
        name = self.request.ports[port]
        title = self.request.hover[port] if self.request.hover else f"@{port} {name}".rstrip()
        self.boxes.append(PortBox(port, box, strong, title))
        number = str(port)
        line = box.top + 2.5 + metrics.ASCENT * NUMBER
        if not self.columns.names[port]:
            line = y + (metrics.ASCENT - metrics.DESCENT) / 2 * NUMBER
        self.say(x - metrics.width(number, NUMBER) / 2, line, number, NUMBER, "number", strong=strong)
        line = box.top + 2.5 + LINE * NUMBER + metrics.ASCENT * NAME
        for part in self.columns.names[port]:
            self.say(x - metrics.width(part, NAME) / 2, line, part, NAME, "name", strong=strong)
            line += LINE * NAME

    def _arc(
        self,
        index: int,
        piece: tracks.Piece,
        where: tracks.Placed,
        line: float,
        centers: dict[int, float],
        middles: dict[int, float],
        half: float,
        row: tuple[int, int],
    ) -> None:
        each = self.request.connections[index]
        above = above_row(each)
        side = -half if above else half

        def end(which: int, port: int) -> list[Point]:
            if not row[0] <= port < row[1]:
                # It leaves the row on the side of the port.
                return [(piece.left if port < row[0] else piece.right, line)]
            x = centers[port] + self.columns.slots[index, which, above]
            return [(x, middles[self.wiring.lanes[port]] + side), (x, line)]

        start, finish = end(0, each.source), end(1, each.target)
        label = self.known[index]
        color = COLORS[index % len(COLORS)]
        title = f"{each.word} {each}"
        points = tuple(start + finish[::-1])
        self.arcs.append(Arc(each.place, points, color, self.strokes[index], len(finish) == 2, title))
        content = label.whole if where.whole else label.short
        if not where.whole and label.note:
            self.shortened.add(index)
        # Between its line and the next track outwards.
        away = self.strokes[index] / 2 + 0.3
        base = line - away - LABEL * metrics.DESCENT if above else line + away + LABEL * metrics.ASCENT
        self.say(where.label, base, content, LABEL, "label", color)

    def _shade(
        self, a: int, b: int, centers: dict[int, float], edges: tuple[float, float], rows: tuple[float, float]
    ) -> None:
        """Shade every other stretch of ports of one resolution, and say which it is."""
        sizes = self.request.sizes
        starts = [p for p in range(len(sizes)) if p == 0 or sizes[p] != sizes[p - 1]]
        for stretch, (start, end) in enumerate(pairwise([*starts, len(sizes)])):
            low, high = max(a, start), min(b, end)
            if low >= high:
                continue
            left = edges[0] if low == a else self._between(low, centers)
            right = edges[1] if high == b else self._between(high, centers)
            if stretch % 2 == 0:
                self.bands.append(Bounds(left, rows[0], right, rows[1]))
            text = size_text(sizes[start])
            x = (left + right) / 2 - metrics.width(text, FAINT) / 2
            self.say(x, rows[0] + FAINT * 1.15, text, FAINT, "faint")

    def _between(self, column: int, centers: dict[int, float]) -> float:
        """The x between a column and the one before it, so that each has room for what is written over it."""
        before = column - 1
        middle = centers[before] + self.columns.widths[before] / 2 + centers[column] - self.columns.widths[column] / 2
        low, high = centers[before] + self._half_band(before), centers[column] - self._half_band(column)
        return min(max(middle / 2, low), high)


def _words(text: str) -> list[str]:
    return [word + " " for word in text.split()]
