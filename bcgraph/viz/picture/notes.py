"""What a picture says of a connection: on its arc, below the picture, and on hover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bcgraph.equations.neuron import SPIKES
from bcgraph.schema import Connection, Place, Projection

ARROW, TIMES = "\N{RIGHTWARDS ARROW}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, slots=True)
class Label:
    """`short` is the label's first part, `16→0`; `note` is the rest, with what differs from the paper's connection."""

    short: str
    note: str

    @property
    def whole(self) -> str:
        """The label in full."""
        return f"{self.short}, {self.note}" if self.note else self.short


def labels(connections: Sequence[Connection], scales: dict[Place, float]) -> list[Label]:
    """A label for each connection. Short forms differ: of several between the same ports each gets a letter."""
    several = Counter((each.word, each.source, each.target) for each in connections)
    seen: Counter[tuple[str, int, int]] = Counter()
    found = []
    for each in connections:
        ends = each.word, each.source, each.target
        letter = f" {_letter(seen[ends])}" if several[ends] > 1 else ""
        seen[ends] += 1
        note = ", ".join(_facts(each) + ([f"scale {scales[each.place]:.2f}"] if each.place in scales else []))
        found.append(Label(f"{each.source}{ARROW}{each.target}{letter}", note))
    return found


def _letter(number: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    rest, last = divmod(number, 26)
    return (_letter(rest - 1) if rest else "") + chr(ord("a") + last)


def _facts(connection: Connection) -> list[str]:
    """What is not the paper's: delay, kernel or block, join, and what it reads."""
    found = [f"delay {connection.delay}"] if connection.delay != 1 else []
    through = connection.through
    if isinstance(through, Projection):
        found += [f"{through.kernel}{TIMES}{through.kernel}"] if through.kernel != 1 else []
    elif through is not None:
        found.append(through.call.name)
    found += ["times"] if connection.join == "mul" else []
    found += [f"reads {connection.read}"] if connection.read != SPIKES else []
    return found
