"""Pictures of training runs: test accuracy against epochs (paper figure 6), and accuracies over seeds side by side."""

from __future__ import annotations

import io
import os
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bcgraph import files
from bcgraph.comparison.runs import Group, Run
from bcgraph.comparison.table import Comparison
from bcgraph.viz.arcs import COLORS, STYLE
from bcgraph.viz.bars import format_of
from bcgraph.viz.styled import styled

_LONGEST = 48
"""Characters of a name in a picture."""


def draw_run(run: Run, path: str | os.PathLike[str]) -> None:
    """Draw the loss and both accuracies of a run against its epochs, as SVG or PNG by the ending of `path`.

    Equal runs give equal SVG files. Raises RunError (E084) for another ending or when it cannot be written.
    """
    kind = format_of(path)
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    epochs = [point.epoch for point in run.history]
    for values, label, color in (
        ([point.held_out for point in run.history], run.held_out, COLORS[0]),
        ([point.train for point in run.history], "training", COLORS[1]),
    ):
        accuracy.plot(epochs, values, color=color, linewidth=1.4, label=label, marker="o" if len(epochs) < 2 else None)
    _finish(accuracy, "accuracy")
    accuracy.legend(frameon=False, fontsize=8)
    loss.plot(epochs, [point.loss for point in run.history], color=COLORS[1], linewidth=1.4)
    _finish(loss, "training loss")
    _save(figure, path, kind)


def draw(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Draw the curves of each group, the mean over its seeds within their range, and beside them every accuracy.

    The ending of `path` decides the format. Raises RunError (E084) for another one or when it cannot be written.
    """
    kind = format_of(path)
    groups = [row.group for row in comparison.rows]
    figure = Figure(figsize=(9.6, max(3.2, 1.2 + 0.34 * len(groups))), layout="constrained")
    curves, dots = figure.subplots(1, 2, width_ratios=(1, 1))
    for place, group in enumerate(groups):
        _curve(curves, group, COLORS[place % len(COLORS)], ("-", "--", ":")[place // len(COLORS) % 3])
    _finish(curves, f"{comparison.held_out} accuracy")
    for place, row in enumerate(comparison.rows):
        color = COLORS[place % len(COLORS)]
        values = list(row.group.by_seed.values())
        dots.scatter(values, [place] * len(values), s=18, color=color, alpha=0.7, linewidth=0, zorder=3)
        spread = row.accuracy.deviation or 0.0
        dots.errorbar(
            row.accuracy.mean, place, xerr=spread, fmt="|", markersize=14, color=color, capsize=3, linewidth=1.2
        )
    base = comparison.rows[comparison.base].accuracy.mean
    dots.axvline(base, color="#B5B5B0", linewidth=0.8, zorder=0)
    dots.set_yticks(range(len(groups)), [_short(group.name) for group in groups])
    dots.invert_yaxis()
    dots.set_xlabel(f"{comparison.held_out} accuracy: each seed, mean and deviation")
    dots.spines[["top", "right"]].set_visible(False)
    _save(figure, path, kind)


def _curve(axes: Any, group: Group, color: str, line: str) -> None:
    length = min(len(run.history) for run in group.runs)
    epochs = [point.epoch for point in group.runs[0].history[:length]]
    values = [[run.history[k].held_out for run in group.runs] for k in range(length)]
    axes.plot(epochs, [fmean(each) for each in values], color=color, linestyle=line, linewidth=1.4)
    if len(group.runs) > 1:
        low, high = [min(each) for each in values], [max(each) for each in values]
        axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)


def _finish(axes: Any, label: str) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."


def _save(figure: Figure, path: str | os.PathLike[str], kind: str) -> None:
    stream = io.BytesIO()
    with styled(STYLE):
        figure.savefig(stream, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    files.write_bytes(path, stream.getvalue())


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as SVG or PNG by the ending of `path`. Raises RunError (E084)."""
    _save(figure, path, format_of(path))
