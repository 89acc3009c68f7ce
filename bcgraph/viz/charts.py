"""The figures of a search's report, each an `<svg>` element."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bcgraph.schema import BackwardConnection, ForwardConnection
from bcgraph.search.records.evaluations import keys_in, name_of
from bcgraph.search.records.objectives import Objectives
from bcgraph.viz.arcs import COLORS, STYLE, thumbnail

_INK, _FAINT = "#333333", "#B5B5B0"
_MAIN, _ACCENT = COLORS[1], COLORS[0]

Evaluation = Mapping[str, Any]


def progress(evaluations: Sequence[Evaluation], measure: str, label: str, *, maximize: bool = True) -> str:
    """The fitness of each evaluation in order, and the best so far; iterations are shaded in turn."""
    values = [(i, e[measure], e["iteration"]) for i, e in enumerate(evaluations) if e[measure] is not None]
    figure, axes = _figure(7.2, 3.0)
    starts = [i for i, e in enumerate(evaluations) if i == 0 or e["iteration"] != evaluations[i - 1]["iteration"]]
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else len(evaluations)
        if place % 2:
            axes.axvspan(start - 0.5, end - 0.5, color="#F1F1EE", linewidth=0, zorder=0)
    axes.scatter([i for i, _, _ in values], [v for _, v, _ in values], s=14, color=_MAIN, alpha=0.65, linewidth=0)
    better = max if maximize else min
    best, line = values[0][1] if values else 0.0, []
    for _, value, _ in values:
        best = better(best, value)
        line.append(best)
    axes.step([i for i, _, _ in values], line, where="post", color=_ACCENT, linewidth=1.6, label="best so far")
    axes.set_xlabel("evaluation (iterations shaded in turn)")
    axes.set_ylabel(label)
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)


def plane(pool: Sequence[Evaluation], chosen: Sequence[Any]) -> str:
    """The pool by N-score and E-score, with the architectures that were chosen from it."""
    figure, axes = _figure(4.6, 3.6)
    kept = {tuple(map(tuple, c)) for c in chosen}
    groups: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for e in pool:
        if e["n"] is not None and e["e"] is not None:
            groups[tuple(map(tuple, keys_in(e))) in kept].append((e["n"], e["e"]))
    for strong, points in groups.items():
        axes.scatter(
            [n for n, _ in points],
            [e for _, e in points],
            s=26 if strong else 12,
            color=_ACCENT if strong else _FAINT,
            linewidth=0,
            label="chosen" if strong else "scored",
            zorder=2 + strong,
        )
    axes.set_xlabel("N-score")
    axes.set_ylabel("E-score")
    axes.legend(frameon=False)
    return _svg(figure)


def front(evaluations: Sequence[Evaluation], kept: Sequence[Evaluation], by: Objectives) -> str:
    """All evaluations by the first two objectives, with those that no other one beats in everything."""
    figure, axes = _figure(5.6, 3.6)
    x, y = (each.measure for each in by[:2])
    for strong, group in ((False, evaluations), (True, kept)):
        points = [(e[x], e[y]) for e in group if e[x] is not None and e[y] is not None]
        axes.scatter(
            [a for a, _ in points],
            [b for _, b in points],
            s=26 if strong else 12,
            color=_ACCENT if strong else _FAINT,
            linewidth=0,
            label="on the front" if strong else "evaluated",
            zorder=2 + strong,
        )
    for set_label, each in zip((axes.set_xlabel, axes.set_ylabel), by, strict=False):
        set_label(f"{name_of(each.measure)} ({'large' if each.maximize else 'small'} is good)")
    axes.legend(frameon=False)
    return _svg(figure)


def heat(evaluations: Sequence[Evaluation], measure: str, label: str, ports: int) -> str:
    """For each pair of ports the mean fitness of the architectures that hold it, and how many those are."""
    held: dict[tuple[int, int], list[float]] = {}
    for e in evaluations:
        if e[measure] is not None:
            for source, target in e["backward"]:
                held.setdefault((source, target), []).append(e[measure])
    side = min(7.2, 1.6 + 0.42 * ports)
    figure, axes = _figure(side + 0.9, side)
    means = {pair: sum(v) / len(v) for pair, v in held.items()}
    grid = [[means.get((source, target), float("nan")) for target in range(ports)] for source in range(ports)]
    image = axes.imshow(grid, cmap="viridis", origin="lower", interpolation="nearest")
    low, high = (min(means.values()), max(means.values())) if means else (0.0, 1.0)
    for (source, target), values in held.items():
        bright = means[source, target] > (low + high) / 2
        axes.text(
            target, source, str(len(values)), ha="center", va="center", fontsize=7, color=_INK if bright else "white"
        )
    axes.set_xticks(range(ports))
    axes.set_yticks(range(ports))
    axes.set_xlabel("to port (target)")
    axes.set_ylabel("from port (source)")
    figure.colorbar(image, ax=axes, label=f"mean {label}", shrink=0.85)
    return _svg(figure)


def positions(evaluations: Sequence[Evaluation], best: Sequence[Evaluation], ports: int) -> str:
    """How often each port is a target, among the best architectures and among all that were evaluated."""
    figure, axes = _figure(7.2, 2.6)
    for offset, (label, group, color) in enumerate(
        [("all evaluated", evaluations, _FAINT), (f"best {len(best)}", best, _ACCENT)]
    ):
        targets = [target for e in group for _, target in e["backward"]]
        shares = [targets.count(p) / len(targets) if targets else 0.0 for p in range(ports)]
        axes.bar([p + 0.4 * offset - 0.2 for p in range(ports)], shares, width=0.38, color=color, label=label)
    axes.set_xticks(range(ports))
    axes.set_xlabel("target port (0 is the front of the network)")
    axes.set_ylabel("share of connections")
    axes.legend(frameon=False)
    return _svg(figure)


def architecture(ports: Sequence[str], backward: Sequence[Any], forward: Sequence[ForwardConnection] = ()) -> str:
    """One architecture as arcs, without the names of its ports."""
    each = [c if isinstance(c, BackwardConnection) else BackwardConnection(c[0], c[1]) for c in backward]
    return thumbnail(ports, [*sorted(each), *sorted(forward)])


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure, axes


def _svg(figure: Figure) -> str:
    stream = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue().decode()
    return text[text.index("<svg") :]
