"""The connections that several searches have found, on one row of ports (paper figure 1)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from matplotlib.figure import Figure

from bcgraph.comparison.searches import Pooled
from bcgraph.viz.arcs import COLORS
from bcgraph.viz.curves import save


def draw(pooled: Pooled, path: str | os.PathLike[str]) -> None:
    """Draw how often each port is a source and a target, and what random networks of the spaces would give.

    The ending of `path` decides the format. Raises RunError (E084) for another one or when it cannot be written.
    """
    ports = len(pooled.ports)
    figure = Figure(figsize=(max(5.0, 0.5 * ports + 2.0), 4.6), layout="constrained")
    arcs, bars = figure.subplots(2, 1, height_ratios=(1.3, 1), sharex=True)
    counts = Counter((each[0], each[1]) for found in pooled.found for each in found)
    most = max(counts.values(), default=1)
    for (source, target), count in sorted(counts.items()):
        xs, ys = _arc(source, target)
        arcs.plot(xs, ys, color=COLORS[0], linewidth=0.8 + 2.4 * count / most, alpha=0.35 + 0.5 * count / most)
        arcs.plot([target], [0], marker="v", color=COLORS[0], markersize=5)
    arcs.scatter(range(ports), [0] * ports, s=26, color="#333333", zorder=3)
    arcs.set_ylim(-0.2, None)
    arcs.axis("off")
    arcs.set_title(f"connections found: {sum(counts.values())}, searches: {len(pooled.found)}", fontsize=9, loc="left")
    bars.bar(range(ports), pooled.targets(), width=0.6, color=COLORS[0], label="found")
    bars.step(
        [p - 0.5 for p in range(ports + 1)],
        [*(expected := pooled.expected()), expected[-1]],
        where="post",
        color=COLORS[1],
        linewidth=1.2,
        label="random networks",
    )
    bars.set_xticks(range(ports), pooled.ports, rotation=60, ha="right", fontsize=7)
    bars.set_ylabel("connections into it")
    bars.spines[["top", "right"]].set_visible(False)
    bars.legend(frameon=False, fontsize=8)
    save(figure, path)


def _arc(source: int, target: int) -> tuple[Sequence[float], Sequence[float]]:
    """A half circle from source to target; a loop of a port is a small one beside it."""
    from math import cos, pi, sin

    middle, radius = ((source + target) / 2, (source - target) / 2) if source != target else (source + 0.22, 0.22)
    angles = [pi * k / 24 for k in range(25)]
    return [middle + radius * cos(a) for a in angles], [abs(radius) * sin(a) for a in angles]
