"""Tracks for the arcs on one side of a row of ports, so that nothing lies on anything else.

An arc leaves its port, runs along a track, and comes back down. Each end has a slot, an x of its own, so two vertical
pieces never coincide. Arcs are placed from the shortest to the longest: an arc goes above all that lie within it, to
the first track where neither it nor its label meets another. A label never stands where a vertical piece of another arc
passes. If its whole text fits nowhere near, its short form goes between two columns, where no vertical piece can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PAD = 3.0
"""The least distance between a label and what lies beside it."""

_REACH = 3
"""How many tracks further out an arc goes for its whole label."""


@dataclass(frozen=True, slots=True)
class Piece:
    """An arc, or what of it lies in one row, from x `left` to `right`.

    `ups` are the x of its vertical pieces, none where it leaves the row. `order` sorts pieces from the innermost to the
    outermost. `full` and `short` are the widths of its label's two forms.
    """

    left: float
    right: float
    ups: tuple[float, ...]
    order: tuple[int, ...]
    full: float
    short: float


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a piece runs: its track, counted from the row, the left end of its label, and whether that is whole."""

    track: int
    label: float
    whole: bool


def place(pieces: Sequence[Piece], low: float, high: float) -> list[Placed]:
    """A track and the place of a label for each piece; labels stay between `low` and `high`."""
    placed: dict[int, Placed] = {}
    taken: list[list[tuple[float, float]]] = []
    for index in sorted(range(len(pieces)), key=lambda i: pieces[i].order):
        piece = pieces[index]
        inner = [p.track for i, p in placed.items() if piece.left <= pieces[i].left and pieces[i].right <= piece.right]
        first = 1 + max(inner, default=-1)
        found = None
        for whole in (True, False):
            last = min(first + _REACH, len(taken)) if whole else len(taken)
            for track in range(first, max(last, first) + 1):
                label = _label(pieces, placed, index, track, (low, high), taken, whole=whole)
                if label is not None:
                    found = Placed(track, label, whole)
                    break
            if found is not None:
                break
        assert found is not None, "between two columns there is room for a short label"
        while len(taken) <= found.track:
            taken.append([])
        size = piece.full if found.whole else piece.short
        taken[found.track].append((min(piece.left, found.label), max(piece.right, found.label + size)))
        placed[index] = found
    return [placed[i] for i in range(len(pieces))]


def _label(
    pieces: Sequence[Piece],
    placed: dict[int, Placed],
    index: int,
    track: int,
    edges: tuple[float, float],
    taken: Sequence[Sequence[tuple[float, float]]],
    *,
    whole: bool,
) -> float | None:
    """The left end of a label on this track, as near the middle of the arc as may be; None when it does not fit."""
    piece = pieces[index]
    size = piece.full if whole else piece.short
    here = taken[track] if track < len(taken) else ()
    if any(_meet(piece.left, piece.right, a, b) for a, b in here):
        return None
    # A vertical piece passes unless its arc is known to turn at or below this track.
    passing = [
        x for i, p in enumerate(pieces) if i != index and (i not in placed or placed[i].track > track) for x in p.ups
    ]
    walls = [(x, x) for x in passing] + list(here)
    middle = (piece.left + piece.right) / 2
    starts = [middle - size / 2, piece.left + PAD, piece.right - PAD - size]
    starts += [b + PAD for _, b in walls] + [a - PAD - size for a, _ in walls]
    fitting = [
        x
        for x in starts
        if edges[0] <= x
        and x + size <= edges[1]
        and piece.left - size / 2 <= x <= piece.right - size / 2
        and not any(_meet(x, x + size, a, b) for a, b in walls)
    ]
    return min(fitting, key=lambda x: (abs(x + size / 2 - middle), x), default=None)


def _meet(a: float, b: float, c: float, d: float) -> bool:
    return a < d + PAD - 1e-9 and c < b + PAD - 1e-9
