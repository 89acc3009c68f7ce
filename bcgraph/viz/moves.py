"""The picture of `docs/search.md`: what mutation and crossover do (paper figures 4 and 5), and the moves beyond them.

Odds and results are those of the operators themselves: `python -m bcgraph.viz.moves docs/moves.svg`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

from bcgraph import files
from bcgraph.schema import BackwardConnection, Projection
from bcgraph.search.space import member_crossover, member_mutation
from bcgraph.search.space.members import Members, MemberSpace
from bcgraph.spaces import Member
from bcgraph.viz.picture.layout import layout
from bcgraph.viz.picture.request import Request
from bcgraph.viz.picture.svg import Panel, compose

_PORTS = 6
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
    moves = member_mutation.moves(_SPACE, _ONE[0], ())
    panels = [
        _panel("a connection that mutates", _ONE),
        *(_moved(name, valid, len(moves)) for name, valid in moves.items()),
        _panel("crossover of one connection: another one is added", _crossed(_ONE)),
        _panel("two connections that are crossed", _TWO),
        _panel("crossover: they swap their targets", _crossed(_TWO)),
    ]
    return compose(panels, columns=2)


def _crossed(parent: Members) -> Members:
    return member_crossover.crossover(_SPACE, parent, Random(3))


def _connections(members: Sequence[Member]) -> list[BackwardConnection]:
    known = {"": None, str(_KERNEL): _KERNEL}
    return [BackwardConnection(m.source, m.target, m.delay, through=known[m.through]) for m in members]


def _panel(title: str, members: Sequence[Member], note: str = "") -> Panel:
    return Panel(title, layout(Request("", [""] * _PORTS, _connections(members), names=False)), note)


def _moved(name: str, valid: member_mutation.Moves, coordinates: int) -> Panel:
    """Every move of one coordinate, with its odds among all moves of the connection."""
    total = sum(weight for _, weight in valid)
    odds = [(member, Fraction(weight, total * coordinates)) for member, weight in valid]
    shown = ",  ".join(f"{_value(member, name)}: {chance}" for member, chance in odds)
    return _panel(_LABELS[name], [member for member, _ in valid], f"odds  {shown}")


def _value(member: Member, name: str) -> Any:
    found = getattr(member, name)
    return f"@{found}" if name in ("source", "target") else found


if __name__ == "__main__":
    files.write_text(Path(sys.argv[1]), picture())
