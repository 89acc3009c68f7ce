"""What stands beside a search: the file's own network, and the one without connections, measured as candidates are.

No decision depends on them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bcgraph import foreign, pruning, spaces
from bcgraph.errors import BcgraphWarning
from bcgraph.schema import Connection, NetworkSpec
from bcgraph.search.records import sealed
from bcgraph.search.records.evaluations import Evaluation, Record
from bcgraph.spaces import Member

NAME = "beside.json"
"""The file in the directory of a run, once step two is done; a search in one training run has none."""

OWN, NONE = "file", "none"


def networks(spec: NetworkSpec) -> dict[str, NetworkSpec]:
    """The networks to measure by name: `none`, and before it the file's own where it has connections.

    The file's own is left out where the search has no weights for one of its connections. A search in one training run
    measures no other network.
    """
    if pruning.one_run(spec.search.evolve.strategy):
        return {}
    own = spec.connections and all(_has_weights(each, spec) for each in spec.connections)
    return {**({OWN: spec} if own else {}), NONE: spec.with_connections()}


def _has_weights(connection: Connection, spec: NetworkSpec) -> bool:
    """Whether the supernet has a projection for a connection of the file. The delay does not matter."""
    if spec.search.space is not None:
        return spaces.member(connection, spec) in spaces.space(spec).names
    alone = sum(each.key[:2] == connection.key[:2] for each in spec.connections) == 1
    plain = connection.through in (None, spec.feedback) and connection.word == "backward"
    return alone and plain and connection.gain is None and connection.read == "s"


def write(directory: Path, found: Mapping[str, tuple[NetworkSpec, Evaluation]]) -> None:
    """Keep the evaluations by name. Raises RunError (E084)."""
    sealed.write(directory / NAME, {"networks": [_entry(n, s, e) for n, (s, e) in found.items()]})


def _entry(name: str, spec: NetworkSpec, evaluation: Evaluation) -> dict[str, Any]:
    members = tuple(sorted(spaces.member(each, spec) for each in spec.connections))
    data = Record("evolve", 0, 0, members, evaluation, name).as_data()
    left_out = ("stage", "iteration", "index", "origin")
    return {"name": name, "members": [], **{k: v for k, v in data.items() if k not in left_out}}


def read(directory: Path) -> list[dict[str, Any]]:
    """The evaluations as data, in the order in which they were written; none where there is no such file.

    A damaged one is none, with a BcgraphWarning: it can be made again.
    """
    path = directory / NAME
    try:
        found = sealed.read(path, _ANY)
        foreign.checked(found, _SHAPE)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        warnings.warn(f"`{path}` is left out, as it cannot be read: {error}", BcgraphWarning, stacklevel=2)
        return []
    return list(found["networks"])


@dataclass(frozen=True)
class _Entry:
    name: str
    members: tuple[Member, ...]
    backward: tuple[tuple[int, int], ...]
    reasons: dict[str, str]
    n: float | None = None
    e: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class _Data:
    networks: tuple[_Entry, ...]


_ANY: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
_SHAPE = TypeAdapter(_Data)


def missing(directory: Path, spec: NetworkSpec) -> Iterator[tuple[str, NetworkSpec]]:
    """The networks that are to be measured and are not there yet."""
    if not (directory / NAME).exists():
        yield from networks(spec).items()
