"""What a picture consists of, as frozen values. Lengths are points; x grows to the right and y downwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from bcgraph.schema import Place
from bcgraph.viz.picture import metrics

Point: TypeAlias = tuple[float, float]


class Bounds(NamedTuple):
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Bounds, margin: float = 0.0) -> bool:
        """Whether the two share more than an edge, or come nearer than `margin`."""
        return (
            self.left < other.right + margin
            and other.left < self.right + margin
            and self.top < other.bottom + margin
            and other.top < self.bottom + margin
        )


Role: TypeAlias = Literal["title", "name", "number", "label", "faint"]


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text: `x` is its left end, `y` its baseline. `color` is that of its connection, "" of its role.

    `strong` is set where it stands on the dark box of a port that has a connection.
    """

    x: float
    y: float
    content: str
    size: float
    role: Role
    color: str = ""
    strong: bool = False

    @property
    def bounds(self) -> Bounds:
        """The box of the line."""
        right = self.x + metrics.width(self.content, self.size)
        return Bounds(self.x, self.y - metrics.ASCENT * self.size, right, self.y + metrics.DESCENT * self.size)


@dataclass(frozen=True, slots=True)
class PortBox:
    """The box of a port; `strong` when it has a connection, `title` what hovering over it says."""

    port: int
    bounds: Bounds
    strong: bool
    title: str


@dataclass(frozen=True, slots=True)
class Arc:
    """A connection, or the piece of it in one row: right-angled from `points` to points, with rounded corners.

    `head` says whether it ends in an arrow at its last point, `title` what hovering over it says.
    """

    place: Place
    points: tuple[Point, ...]
    color: str
    width: float
    head: bool
    title: str


@dataclass(frozen=True, slots=True)
class Wire:
    """A piece of the network's own wiring: straight, horizontal or vertical."""

    start: Point
    end: Point


@dataclass(frozen=True, slots=True)
class Picture:
    """A whole picture. `bands` shade every other stretch of ports of one resolution."""

    width: float
    height: float
    title: str
    bands: tuple[Bounds, ...]
    wires: tuple[Wire, ...]
    boxes: tuple[PortBox, ...]
    arcs: tuple[Arc, ...]
    texts: tuple[Text, ...]
