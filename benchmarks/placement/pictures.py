"""The plots of docs/science.md."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bcgraph.viz.arcs import COLORS, STYLE
from benchmarks.placement import contest, other_tables, records, tables, values
from benchmarks.placement.__main__ import known

FAINT = "#B5B5B0"


def draw(folder: Path) -> None:
    """Write `placement.svg`, `predictors.svg`, `regret.svg` and `costs.svg` into `folder`."""
    drawn = (("placement", placement), ("predictors", predictors), ("regret", regret), ("costs", costs))
    with mpl.rc_context(STYLE):
        for name, picture in drawn:
            figure = picture()
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)


def placement() -> plt.Figure:
    """All architectures by accuracy, and what each connection is worth alone and beside any other."""
    figure, (line, alone, beside) = plt.subplots(
        1, 3, figsize=(11, 3.4), layout="constrained", width_ratios=(2, 1, 1.15)
    )
    found = records.by_architecture(known(values.base(), records.TABLE))
    truth = tables.truth()
    order = sorted(truth, key=lambda a: truth[a])
    spread = [statistics.stdev(found[records.written(a)]) for a in order]
    line.errorbar(range(len(order)), [truth[a] for a in order], spread, fmt=".", color=FAINT, ecolor="#E4E4E0")
    singles = [(i, truth[a]) for i, a in enumerate(order) if len(a) == 1]
    line.plot(*zip(*singles, strict=True), "o", color=COLORS[1], markersize=4, zorder=3, label="one connection")
    line.plot(order.index(()), truth[()], "s", color=COLORS[0], zorder=3, label="none")
    line.set_xlabel("architectures, by accuracy")
    line.set_ylabel("test accuracy, 5 seeds")
    line.legend(frameon=False)
    ports = len(values.base().ports)
    low, high = min(truth.values()), max(truth.values())
    image = None
    for frame, title in ((alone, "alone"), (beside, "beside any other")):
        grid = [[float("nan")] * ports for _ in range(ports)]
        for source in range(ports):
            for target in range(source + 1):
                holding = [v for a, v in truth.items() if (source, target) in a and (len(a) == 1) == (title == "alone")]
                grid[source][target] = statistics.mean(holding)
                frame.text(target, source, f"{grid[source][target]:.2f}"[1:], ha="center", va="center", fontsize=7)
        image = frame.imshow(grid, origin="lower", cmap="viridis", vmin=low, vmax=high)
        frame.set_title(title, fontsize=9)
        frame.set_xlabel("to port")
        frame.set_xticks(range(ports))
        frame.set_yticks(range(ports))
    alone.set_ylabel("from port")
    assert image is not None
    figure.colorbar(image, ax=beside, label="mean accuracy", shrink=0.9)
    return figure


def predictors() -> plt.Figure:
    """Kendall's correlation with the truth of each predictor, one dot a seed."""
    figure, frame = plt.subplots(figsize=(7, 2.8), layout="constrained")
    names = list(reversed(tables.LABELS))
    for place, name in enumerate(names):
        taus = [tables.correlation(name, seed) for seed in tables.seeds()]
        low, high = tables.interval(name)
        frame.plot([low, high], [place, place], color=FAINT, linewidth=4, solid_capstyle="butt")
        frame.plot(taus, [place] * len(taus), "o", color=COLORS[1], markersize=4, alpha=0.7)
        frame.plot(statistics.mean(taus), place, "|", color=COLORS[0], markersize=14)
    frame.axvline(0, color="#333333", linewidth=0.7)
    frame.set_yticks(range(len(names)), [tables.LABELS[name] for name in names])
    frame.set_xlabel("Kendall's correlation with the truth")
    return figure


def regret() -> plt.Figure:
    """Regret of each strategy, decided by the supernet and by the truth."""
    figure, frames = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharex=True)
    for frame, predictor, title in zip(
        frames, (tables.SHOT, "truth"), ("decided by the supernet", "decided by the true accuracy"), strict=True
    ):
        _curves(frame, predictor)
        frame.set_title(title, fontsize=9)
        frame.set_xlabel("evaluations")
    frames[0].set_ylabel("regret in true accuracy")
    frames[1].legend(frameon=False)
    return figure


GROUPS = (
    ("random, trained", "random, ", "o-"),
    ("successive halving", "halving of ", "s-"),
    ("the paper's method", "paper", "D"),
    ("sifted by E-score, supernet", "sifted", "^"),
    ("E-score and locality, none, 2 or 5 trained", "E-score and locality", "v-"),
    ("the recipe and its kin: late locality", "E-score and late locality, best", "*-"),
)
"""Ways of `contest.py` that are drawn together: label, how their names begin, marker."""


def costs() -> plt.Figure:
    """Regret against cost for all ways to search, a frame for each table."""
    names = list(other_tables.TABLES_OF)
    figure, frames = plt.subplots(1, len(names), figsize=(12, 3.4), layout="constrained", sharex=True)
    for frame, name in zip(frames, names, strict=True):
        found = contest.result(name)
        for place, (label, start, mark) in enumerate(GROUPS):
            some = sorted((each.cost, each.regret) for each in found if each.way.startswith(start))
            if some:
                color = COLORS[place % len(COLORS)]
                frame.plot(*zip(*some, strict=True), mark, color=color, label=label, markersize=5, linewidth=1)
        frame.set_xscale("log")
        frame.set_ylim(bottom=0)
        frame.set_title(name, fontsize=9)
        frame.set_xlabel("cost in training runs")
    frames[0].set_ylabel("regret in true accuracy")
    handles, labels = frames[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _curves(frame: Axes, predictor: str) -> None:
    marks = ("-", "--", "-.", ":")
    for index, strategy in enumerate(tables.STRATEGIES):
        curve = tables.regrets(strategy, predictor)
        frame.plot(range(1, len(curve) + 1), curve, marks[index], color=COLORS[index % len(COLORS)], label=strategy)
    frame.set_ylim(bottom=0)
