"""Names that stand in one place: of connections in the state dict, and of the neuron that a file has without saying so.

The names of connections: where the parameters of a projection stand in the state dict (design 2).

A backward connection from port J to port I owns `backward.J_I.conv.weight` and `backward.J_I.bn.*`. Every name of that
form is built and read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

BACKWARD = "backward"
"""The first part of the names of all backward connections; no layer of a user may take it."""

DEFAULT_NEURON = "lif"
"""The neuron of a network that names none, the paper's."""

T = TypeVar("T")

_PROJECTION = re.compile(rf"{BACKWARD}\.(\d+)_(\d+)(?:\.(.+))?")


class Projection(NamedTuple):
    """A name taken apart: port numbers of source and target, and what of the projection is named ("" for all)."""

    source: int
    target: int
    part: str


def projection(source: int, target: int, part: str = "") -> str:
    """The name of a projection, `backward.16_0`, or of a part of it, `backward.16_0.conv`."""
    name = f"{BACKWARD}.{source}_{target}"
    return f"{name}.{part}" if part else name


def parse_projection(name: str) -> Projection | None:
    """The projection that `name` belongs to; None for the name of something else."""
    found = _PROJECTION.fullmatch(name)
    return None if found is None else Projection(int(found[1]), int(found[2]), found[3] or "")


def merged(number: int, part: str) -> str:
    """The name of a part of merged projections, `backward.merged0.sum.4x4`."""
    return f"{BACKWARD}.merged{number}.{part}"


def of_network(values: Mapping[str, T], pairs: Iterable[tuple[int, int]]) -> dict[str, T]:
    """Of values by name, those of the backbone and of the projections of `pairs` (source, target)."""
    kept = set(pairs)
    return {
        name: value
        for name, value in values.items()
        if (found := parse_projection(name)) is None or (found.source, found.target) in kept
    }
