"""Names that stand in one place: of connections in the state dict, and of the neuron that a file has without saying so.

The names of connections: where the parameters of a projection stand in the state dict (design 2).

A backward connection from port J to port I owns `backward.J_I.conv.weight` and `backward.J_I.bn.*`, a forward one
`forward.J_I.*`. A further connection between the same ports has its delay D in its names, `backward.J_I_D.*`. Where
all members of a space stand side by side, the further ones between the same ports are numbered, `backward.J_I_m2.*`.
Every name of these forms is built and read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

BACKWARD = "backward"
"""The first part of the names of all backward connections; no layer of a user may take it."""

FORWARD = "forward"
"""The first part of the names of all forward connections."""

DEFAULT_NEURON = "lif"
"""The neuron of a network that names none, the paper's."""

T = TypeVar("T")

_PROJECTION = re.compile(rf"({BACKWARD}|{FORWARD})\.(\d+)_(\d+)(?:_(m?\d+))?(?:\.(.+))?")


class Projection(NamedTuple):
    """A name taken apart: port numbers of source and target, and what of the projection is named ("" for all).

    `prefix` is the name of the whole projection.
    """

    source: int
    target: int
    part: str
    word: str
    prefix: str


def projection(
    source: int, target: int, part: str = "", *, word: str = BACKWARD, delay: int | None = None, member: int = 1
) -> str:
    """The name of a projection, `backward.16_0`, or of a part of it, `backward.16_0.conv`."""
    name = f"{word}.{source}_{target}" + ("" if delay is None else f"_{delay}") + (f"_m{member}" if member > 1 else "")
    return f"{name}.{part}" if part else name


def parse_projection(name: str) -> Projection | None:
    """The projection that `name` belongs to; None for the name of something else."""
    found = _PROJECTION.fullmatch(name)
    if found is None:
        return None
    part = found[5] or ""
    return Projection(int(found[2]), int(found[3]), part, found[1], name.removesuffix(f".{part}"))


def merged(number: int, part: str) -> str:
    """The name of a part of merged projections, `backward.merged0.sum.4x4`."""
    return f"{BACKWARD}.merged{number}.{part}"


def renamed(name: str, prefixes: Mapping[str, str]) -> str | None:
    """The name of a layer, or of a part of one, where projections have other names: `prefixes`, old to new.

    None for a layer of a projection that is not among them. Layers of the backbone keep their names.
    """
    first, _, rest = name.partition(".")
    if first not in (BACKWARD, FORWARD):
        return name
    number, _, part = rest.partition(".")
    prefix = prefixes.get(f"{first}.{number}")
    return None if prefix is None else f"{prefix}.{part}"


def of_network(values: Mapping[str, T], prefixes: Mapping[str, str]) -> dict[str, T]:
    """Of values by name, those of the backbone and of some projections: `prefixes` are their old names and new ones."""
    named = ((renamed(name, prefixes), value) for name, value in values.items())
    return {name: value for name, value in named if name is not None}
