"""The columns of the ports: how wide each is, where the ends of arcs stand in it, and which columns make a row."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bcgraph.schema import Connection
from bcgraph.viz.picture import metrics, tracks
from bcgraph.viz.picture.notes import Label
from bcgraph.viz.picture.request import (
    BETWEEN,
    FAINT,
    LABEL,
    LINE,
    NAME,
    NUMBER,
    PORTS_IN_A_ROW,
    ROW_WIDTH,
    SLOT,
    Request,
    above_row,
    size_text,
)
from bcgraph.viz.picture.skeleton import Skeleton

# A line of a name is broken above the first, and a part of a name between dots only above the second.
_NAME_WIDTH, _LONGEST_PART = 27.0, 60.0


@dataclass
class Columns:
    """The columns of all ports: the lines of names, widths of boxes, offsets of slots, distances between centers."""

    names: list[list[str]]
    widths: list[float]
    slots: dict[tuple[int, int, bool], float]
    steps: list[float]
    margin: float

    @property
    def box_height(self) -> float:
        """The height of all boxes: a number, and the longest name's lines."""
        lines = max((len(n) for n in self.names), default=0)
        return 5.0 + LINE * NUMBER + lines * LINE * NAME + 1.0


def columns_of(request: Request, known: Sequence[Label]) -> Columns:
    """The columns of a picture whose connections have these labels."""
    count = len(request.ports)
    names = [_name_lines(n) if request.names else [] for n in request.ports]
    spans: dict[bool, list[float]] = {}
    slots: dict[tuple[int, int, bool], float] = {}
    gaps: dict[bool, float] = {}
    for above in (True, False):
        chosen = [i for i, c in enumerate(request.connections) if above_row(c) == above]
        short = max((metrics.width(known[i].short, LABEL) for i in chosen), default=0.0) + 2 * tracks.PAD
        gaps[above] = short if chosen else 0.0
        spans[above] = [0.0] * count
        for port, offsets in _slots(request.connections, chosen, short).items():
            spans[above][port] = max(offsets.values()) - min(offsets.values()) + SLOT
            slots |= {(index, end, above): x for (index, end), x in offsets.items()}
    widths = []
    for port in range(count):
        name = max((metrics.width(line, NAME) for line in names[port]), default=0.0)
        number = metrics.width(str(port), NUMBER) * 1.1
        widths.append(max(name + 5.0, number + 7.0, spans[True][port], spans[False][port]))
    # A band is at least as wide as what is written over it.
    sizes = [metrics.width(size_text(s), FAINT) + 4.0 for s in request.sizes] or [0.0] * count
    steps = [
        max(
            (widths[a] + widths[b]) / 2 + BETWEEN,
            (sizes[a] + sizes[b]) / 2,
            *((spans[s][a] + spans[s][b]) / 2 - SLOT + gaps[s] for s in (True, False)),
        )
        for a, b in pairwise(range(count))
    ]
    return Columns(names, widths, slots, steps, max(gaps.values()))


def _slots(
    connections: Sequence[Connection], chosen: Sequence[int], short: float
) -> dict[int, dict[tuple[int, int], float]]:
    """For each port the offsets of ends from its center, by connection and 0 for its source or 1 for its target.

    From left to right: arcs to earlier ports, shortest first; nested loops; arcs to later ports, longest first.
    So arcs that share a port do not cross each other.
    """
    at: dict[int, list[tuple[tuple[int, ...], tuple[int, int]]]] = defaultdict(list)
    loops: dict[int, list[int]] = defaultdict(list)
    for index in chosen:
        source, target = connections[index].source, connections[index].target
        if source == target:
            loops[source].append(index)
            continue
        length = abs(source - target)
        for end, port, other in ((0, source, target), (1, target, source)):
            key = (0, length, index) if other < port else (2, -length, -index)
            at[port].append((key, (index, end)))
    found: dict[int, dict[tuple[int, int], float]] = {}
    for port in sorted({*at, *loops}):
        ends = sorted(at[port])
        own = loops[port]
        order: list[tuple[int, int] | None] = [e for k, e in ends if k[0] == 0]
        order += [(i, 1) for i in reversed(own)] + ([None] if own else []) + [(i, 0) for i in own]
        order += [e for k, e in ends if k[0] == 2]
        x, offsets = 0.0, {}
        for each in order:
            if each is None:
                x += max(0.0, short - SLOT)
            else:
                offsets[each] = x
                x += SLOT
        middle = (min(offsets.values()) + max(offsets.values())) / 2
        found[port] = {end: offset - middle for end, offset in offsets.items()}
    return found


def _name_lines(name: str) -> list[str]:
    """The name of a port in lines, broken behind dots and underscores."""
    parts, start = [], 0
    for place, c in enumerate(name):
        if c in "._" and place > start:
            parts.append(name[start : place + 1])
            start = place + 1
    parts.append(name[start:])
    limit = min(_LONGEST_PART, max(_NAME_WIDTH, *(metrics.width(part, NAME) for part in parts)))
    return metrics.wrap(parts, NAME, limit)


def rows_of(columns: Columns, wiring: Skeleton) -> list[tuple[int, int]]:
    """The columns of each row, about as many in each, cut where no branch is cut if there is such a place near."""
    count = len(columns.widths)
    least, start = 0, 0
    while start < count:
        start = _reach(columns, start, PORTS_IN_A_ROW)
        least += 1
    found: list[tuple[int, int]] = []
    start, free = 0, set(wiring.cuts)
    while start < count:
        left = max(1, least - len(found))
        end = _reach(columns, start, min(PORTS_IN_A_ROW, math.ceil((count - start) / left) + (1 if left > 1 else 0)))
        if end < count:
            end = next((e for e in range(end, max(start, end - 4), -1) if e in free and e > start), end)
        found.append((start, end))
        start = end
    return found


def _reach(columns: Columns, start: int, most: int) -> int:
    end, width = start + 1, 0.0
    while end < len(columns.widths) and end - start < most and width + columns.steps[end - 1] <= ROW_WIDTH:
        width += columns.steps[end - 1]
        end += 1
    return end
