"""How the cost of inference grows: with the steps, with the number of backward connections, with their distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

import bcgraph
from benchmarks.harness import Row, medians
from benchmarks.networks import images, resnet18

BATCH = 32
PAIRS = ((16, 0), (8, 2), (12, 4), (6, 6), (14, 10), (10, 1), (16, 13), (4, 3))


@dataclass(frozen=True)
class Point:
    """One network: its place on the axis, and the seconds of a forward pass of ours and of the peer's."""

    axis: str
    value: int
    ours: float
    peer: float


@torch.no_grad()
def measure(axis: str, value: int, steps: int, pairs: tuple[tuple[int, int], ...]) -> Point:
    from benchmarks.peer import Peer

    x = images(BATCH)
    spec = resnet18(steps, pairs)
    # Untrained, so that both run the same kernels on the same shapes; what fires makes no difference to them.
    model = bcgraph.compile(spec, "folded", inference=True)
    peer = Peer(steps, pairs).eval()
    ours, theirs = medians(lambda: model(x), lambda: peer(x), repeats=3)
    return Point(axis, value, ours, theirs)


def points() -> list[Point]:
    found = [measure("steps", t, t, PAIRS[:2]) for t in (1, 2, 4, 8, 16)]
    found += [measure("connections", n, 4, PAIRS[:n]) for n in (0, 1, 2, 4, 8)]
    found += [measure("distance", d, 4, ((d, 0),)) for d in (0, 4, 8, 12, 16)]
    return found


def rows(found: list[Point]) -> list[Row]:
    return [
        Row(f"{p.axis} {p.value}", f"{p.ours:.3f} s", f"{p.peer:.3f} s", f"{p.ours / p.peer:.2f}", "") for p in found
    ]


def run() -> list[Row]:
    return rows(points())
