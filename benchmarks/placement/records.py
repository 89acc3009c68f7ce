"""What was trained so far: one line of a CSV file for each architecture and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bcgraph import dsl
from bcgraph.schema import NetworkSpec, SearchSpec
from bcgraph.search.space.search_space import Architecture
from benchmarks.placement import rows

TABLE = Path(__file__).with_name("digits_rows.csv")
"""The trainings that are kept: every architecture with five seeds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a training run: the last and the best accuracy on the test part, the last loss, and seconds."""

    accuracy: float
    best: float
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Record:
    """One finished training. `settings` is the digest of the specification without its connections."""

    settings: str
    backward: str
    seed: int
    accuracy: float
    best: float
    loss: float
    seconds: float

    @property
    def key(self) -> tuple[str, int]:
        """No two records have the same."""
        return self.backward, self.seed


def settings_of(spec: NetworkSpec) -> str:
    """The same for two specifications that differ only in their connections and in how they are searched."""
    trained = spec.with_backward(()).model_copy(update={"search": SearchSpec()})
    return hashlib.sha256(dsl.format_spec(trained).encode()).hexdigest()[:12]


def written(architecture: Architecture) -> str:
    """`4>0 2>2`; `none` for no connection."""
    return " ".join(f"{source}>{target}" for source, target in architecture) or "none"


def read(path: Path) -> tuple[Record, ...]:
    """The records in a file, none where there is no file. Raises ValueError for a file of something else."""
    return rows.read(path, Record)


def write(path: Path, records: Iterable[Record]) -> None:
    """Replace the file in one step."""
    rows.write(path, Record, records)


def by_architecture(records: Sequence[Record]) -> dict[str, list[float]]:
    """The accuracies of each architecture."""
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record.backward, []).append(record.accuracy)
    return found
