"""What is asked of a picture, and the sizes of what it consists of. Lengths are points, 1/72 inch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bcgraph.schema import Connection, ForwardConnection, Place
from bcgraph.viz.picture.notes import TIMES
from bcgraph.viz.picture.skeleton import Skeleton

PORTS_IN_A_ROW = 20
ROW_WIDTH = 720.0
"""A row is wrapped above either."""

# Colors that stay apart for color-blind readers (Okabe and Ito); connections beyond the last begin anew.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#B88700", "#3A9BD1")

TITLE, NUMBER, NAME, LABEL, FAINT = 10.0, 8.0, 6.5, 7.5, 7.0
"""Font sizes."""

LINE = 1.15
"""The height of a line of a name, by the font size."""

EDGE, BETWEEN, SLOT = 8.0, 9.0, 8.0
"""Beside the outermost boxes; between two boxes; between two arcs that end at one port."""


@dataclass(frozen=True)
class Request:
    """What is to be drawn: `sizes` are height and width at each port, empty for none; `scales` set widths of lines.

    `names` writes the names of ports into their boxes, which otherwise hold numbers alone.
    """

    title: str
    ports: Sequence[str]
    connections: Sequence[Connection]
    sizes: Sequence[tuple[int, int]] = ()
    scales: Mapping[Place, float] = field(default_factory=dict)
    wiring: Skeleton | None = None
    hover: Sequence[str] = ()
    names: bool = True


def above_row(connection: Connection) -> bool:
    """Whether a connection is drawn above its row."""
    return not isinstance(connection, ForwardConnection)


def size_text(size: tuple[int, int]) -> str:
    """How a resolution is written."""
    return f"{size[0]}{TIMES}{size[1]}"
