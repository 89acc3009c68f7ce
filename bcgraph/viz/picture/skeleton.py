"""The wiring of a backbone between its ports: which branches run in parallel, and where they part and meet.

Each port has a column of its own, in the order of ports. Branches that hold ports, and shortcuts beside them, lie in
lanes one below the other. Positions along the columns are numbers: the box of port c reaches from c to c + 0.6,
branches part at c - 0.1 before it, and meet at c - 0.3 after the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bcgraph.schema import Body, Join, NeuronLayer, walk

START = -1.0
BOX, PART, MEET, CUT = 0.6, -0.1, -0.3, -0.2
"""Where a box ends, branches part and meet, and a row may be cut, each from the number of a column."""


@dataclass(frozen=True, slots=True)
class Along:
    """A wire in `lane` between two positions."""

    lane: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Across:
    """A wire at one position between two lanes."""

    at: float
    start: int
    end: int


@dataclass
class Skeleton:
    """The lane of each port, the wires, and the columns before which a row can be cut without cutting a branch."""

    lanes: list[int] = field(default_factory=list)
    along: list[Along] = field(default_factory=list)
    across: list[Across] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)


def skeleton(body: Body) -> Skeleton:
    """The wiring of an expanded backbone."""
    found = Skeleton()
    end = float(_count(body)) + 1
    _series(found, body, 0, START, end, free=True)
    return found


def chain(ports: int) -> Skeleton:
    """The wiring of ports one after the other."""
    positions = [START, *(p for c in range(ports) for p in (c, c + BOX)), ports + 1.0]
    pairs = zip(positions[::2], positions[1::2], strict=True)
    return Skeleton([0] * ports, [Along(0, *pair) for pair in pairs], [], list(range(ports)))


def _count(body: Body) -> int:
    return sum(isinstance(node, NeuronLayer) for node in walk(body))


def _series(found: Skeleton, body: Body, lane: int, start: float, end: float, *, free: bool) -> int:
    """Lay `body` out in `lane` from `start` to `end`; returns how many lanes it takes."""
    lanes, at = 1, start
    for node in body:
        column = len(found.lanes)
        if isinstance(node, NeuronLayer):
            if free:
                found.cuts.append(column)
            found.lanes.append(lane)
            found.along.append(Along(lane, at, float(column)))
            at = column + BOX
        elif isinstance(node, Join) and (held := _count((node,))):
            if free:
                found.cuts.append(column)
            parted, met = column + PART, column + held + MEET
            found.along.append(Along(lane, at, parted))
            lanes = max(lanes, _parallel(found, node.branches, lane, parted, met))
            at = met
    found.along.append(Along(lane, at, end))
    return lanes


def _parallel(found: Skeleton, branches: Sequence[Body], lane: int, parted: float, met: float) -> int:
    """Lay branches out below each other, those with ports first; returns how many lanes they take."""
    below = 0
    # A stable order: ports keep theirs.
    for branch in sorted(branches, key=lambda b: not _count(b)):
        if below:
            found.across += [Across(parted, lane, lane + below), Across(met, lane, lane + below)]
        below += _series(found, branch, lane + below, parted, met, free=False)
    return below
