"""The figures of a search's report, each an `<svg>` element."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from bcgraph.schema import BackwardConnection, ForwardConnection
from bcgraph.search.records.evaluations import keys_in, name_of
from bcgraph.search.records.objectives import Objectives
from bcgraph.viz.arcs import COLORS, STYLE, thumbnail
from bcgraph.viz.styled import styled

_INK, _FAINT, _SHADE = "#333333", "#b5b5b0", "#f1f1ee"
_ON_BRIGHT = "#111111"
_VARIABLES = {_INK: "--ink", _FAINT: "--faint", _SHADE: "--shade"}
"""Colors that follow the page: light or dark."""

_GROUP = "points-"
_MAIN, _ACCENT = COLORS[1], COLORS[0]

Evaluation = Mapping[str, Any]


def progress(evaluations: Sequence[Evaluation], measure: str, label: str, *, maximize: bool = True) -> str:
    """The fitness of each evaluation in order, and the best so far; iterations are shaded in turn."""
    measured = [(i, e) for i, e in enumerate(evaluations) if e[measure] is not None]
    values = [(i, e[measure]) for i, e in measured]
    figure, axes = _figure(7.2, 3.0)
    starts = [i for i, e in enumerate(evaluations) if i == 0 or e["iteration"] != evaluations[i - 1]["iteration"]]
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else len(evaluations)
        if place % 2:
            axes.axvspan(start - 0.5, end - 0.5, color=_SHADE, linewidth=0, zorder=0)
    _points(axes, "evaluated", values, 3.8, _MAIN, alpha=0.65)
    better = max if maximize else min
    best, line = values[0][1] if values else 0.0, []
    for _, value in values:
        best = better(best, value)
        line.append(best)
    axes.step([i for i, _ in values], line, where="post", color=_ACCENT, linewidth=1.6, label="best so far")
    axes.set_xlabel("evaluation (iterations shaded in turn)")
    axes.set_ylabel(label)
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure, {"evaluated": [e for _, e in measured]})


def plane(pool: Sequence[Evaluation], chosen: Sequence[Any]) -> str:
    """The pool by N-score and E-score, with the architectures that were chosen from it."""
    figure, axes = _figure(4.6, 3.6)
    kept = {tuple(map(tuple, c)) for c in chosen}
    groups: dict[str, list[Evaluation]] = {"scored": [], "chosen": []}
    for e in pool:
        if e["n"] is not None and e["e"] is not None:
            groups["chosen" if tuple(map(tuple, keys_in(e))) in kept else "scored"].append(e)
    for name, group in groups.items():
        strong = name == "chosen"
        size, color = (5.1, _ACCENT) if strong else (3.5, _FAINT)
        _points(axes, name, [(e["n"], e["e"]) for e in group], size, color, label=name, zorder=2 + strong)
    axes.set_xlabel("N-score")
    axes.set_ylabel("E-score")
    axes.legend(frameon=False)
    return _svg(figure, groups)


def front(evaluations: Sequence[Evaluation], kept: Sequence[Evaluation], by: Objectives) -> str:
    """All evaluations by the first two objectives, with those that no other one beats in everything."""
    figure, axes = _figure(5.6, 3.6)
    x, y = (each.measure for each in by[:2])
    groups = {
        name: [e for e in group if e[x] is not None and e[y] is not None]
        for name, group in (("evaluated", evaluations), ("on the front", kept))
    }
    for (name, group), strong in zip(groups.items(), (False, True), strict=True):
        size, color = (5.1, _ACCENT) if strong else (3.5, _FAINT)
        _points(axes, name, [(e[x], e[y]) for e in group], size, color, label=name, zorder=2 + strong)
    for set_label, each in zip((axes.set_xlabel, axes.set_ylabel), by, strict=False):
        set_label(f"{name_of(each.measure)} ({'large' if each.maximize else 'small'} is good)")
    axes.legend(frameon=False)
    return _svg(figure, groups)


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
            target,
            source,
            str(len(values)),
            ha="center",
            va="center",
            fontsize=7,
            color=_ON_BRIGHT if bright else "white",
        )
    axes.set_xticks(range(ports))
    axes.set_yticks(range(ports))
    axes.set_xlabel("to port (target)")
    axes.set_ylabel("from port (source)")
    figure.colorbar(image, ax=axes, label=f"mean {label}", shrink=0.85).ax.tick_params(colors=_INK)
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
    return thumbnail(ports, sorted([*each, *forward], key=lambda c: c.place))


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure, axes


def _points(axes: Any, name: str, places: Sequence[tuple[float, float]], size: float, color: str, **more: Any) -> None:
    """Points that are marked as evaluations when the figure is written."""
    x, y = [x for x, _ in places], [y for _, y in places]
    style = {"linestyle": "none", "marker": "o", "markersize": size, "markeredgewidth": 0}
    axes.plot(x, y, color=color, gid=_GROUP + name.replace(" ", "-"), **style, **more)


def _svg(figure: Figure, points: Mapping[str, Sequence[Evaluation]] | None = None) -> str:
    """The figure as text, each of its points with the number of its evaluation (`at`), in the colors of the page."""
    for label in figure.findobj(Text):
        if label.get_color() == "black":
            label.set_color(_INK)
    stream = io.BytesIO()
    with styled(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    text = stream.getvalue().decode()
    text = text[text.index("<svg") :]
    for name, evaluations in (points or {}).items():
        text = _marked(text, _GROUP + name.replace(" ", "-"), [e["at"] for e in evaluations])
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text


def _marked(text: str, group: str, numbers: Sequence[int]) -> str:
    """Give the points of a group the numbers of their evaluations; the group's name is gone then."""
    if not numbers:
        return text
    start = text.index(f'<g id="{group}">')
    parts = re.split(r"(?=<use )", text[start:], maxsplit=len(numbers))
    assert len(parts) == len(numbers) + 1, "a point is missing"
    marked = (f'<use data-at="{at}" {part.removeprefix("<use ")}' for at, part in zip(numbers, parts[1:], strict=True))
    return text[:start] + parts[0].replace(f'<g id="{group}">', "<g>") + "".join(marked)
