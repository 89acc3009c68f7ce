"""The picture of `docs/search.md`: what mutation and crossover do (paper figures 4 and 5), and the moves beyond them.

Odds and results are those of the operators themselves: `python -m bcgraph.viz.moves docs/moves.svg`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bcgraph import files
from bcgraph.schema import BackwardConnection, Projection
from bcgraph.search.space import member_crossover, member_mutation
from bcgraph.search.space.members import Members, MemberSpace
from bcgraph.spaces import Member
from bcgraph.viz.arcs import STYLE, plot

_PORTS = 6
_INK = "#333333"
_KERNEL = Projection(kernel=3)
_SPACE = MemberSpace(
    tuple(
        sorted(
            Member(j, i, delay, through)
            for j in range(_PORTS)
            for i in range(j + 1)
            for delay in (1, 2, 5)
            for through in ("", str(_KERNEL))
        )
    ),
    most=2,
)
_ONE = (Member(4, 2),)
_TWO = (Member(3, 0), Member(5, 2))
_LABELS = {
    "source": "mutation: the source moves",
    "target": "mutation: the target moves",
    "delay": "mutation: a neighbor among the delays 1, 2, 5",
    "through": "mutation: another projection",
}


def picture() -> str:
    """The picture as an `<svg>` element. Equal on every call."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 9.6), layout="constrained")
        grid = figure.subplots(4, 2)
        _before(grid[0][0], _ONE, "a connection that mutates")
        moves = member_mutation.moves(_SPACE, _ONE[0], ())
        panels = [grid[0][1], grid[1][0], grid[1][1], grid[2][0]]
        for axes, (name, valid) in zip(panels, moves.items(), strict=True):
            _moved(axes, name, valid, len(moves))
        _before(grid[2][1], _crossed(_ONE), "crossover of one connection: another one is added")
        _before(grid[3][0], _TWO, "two connections that are crossed")
        _before(grid[3][1], _crossed(_TWO), "crossover: they swap their targets")
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue().decode()
    return text[text.index("<svg") :]


def _crossed(parent: Members) -> Members:
    return member_crossover.crossover(_SPACE, parent, Random(3))


def _connections(members: Sequence[Member]) -> list[BackwardConnection]:
    known = {"": None, str(_KERNEL): _KERNEL}
    return [BackwardConnection(m.source, m.target, m.delay, through=known[m.through]) for m in members]


def _before(axes: Axes, members: Sequence[Member], title: str) -> None:
    plot(axes, [""] * _PORTS, _connections(members), labels=False)
    _titled(axes, title)


def _moved(axes: Axes, name: str, valid: member_mutation.Moves, coordinates: int) -> None:
    """Every move of one coordinate, with its odds among all moves of the connection."""
    plot(axes, [""] * _PORTS, _connections([member for member, _ in valid]), labels=False)
    total = sum(weight for _, weight in valid)
    odds = [(member, Fraction(weight, total * coordinates)) for member, weight in valid]
    shown = ",  ".join(f"{_value(member, name)}: {chance}" for member, chance in odds)
    axes.text(-0.5, -0.62, f"odds  {shown}", fontsize=7.5, color=_INK, va="top")
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.45, high)
    _titled(axes, _LABELS[name])


def _value(member: Member, name: str) -> Any:
    found = getattr(member, name)
    return f"@{found}" if name in ("source", "target") else found


def _titled(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9, color=_INK, loc="left")


if __name__ == "__main__":
    files.write_text(Path(sys.argv[1]), picture())
