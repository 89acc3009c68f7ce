"""How well the workers of a run were used, kept in `workers.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bcgraph import files, foreign

NAME = "workers.json"


@dataclass
class Usage:
    """Workers and threads of one call, and what they did.

    `busy` is the seconds spent on evaluations, summed over the workers; `available` the seconds that the workers were
    up while there was something to evaluate; `wall` the duration of the evaluations. `machines` is the number of
    machines, `lost` that of lost workers, and `again` that of tasks done again because of them.
    """

    workers: int
    threads: int
    busy: float = 0.0
    available: float = 0.0
    wall: float = 0.0
    machines: int = 0
    lost: int = 0
    again: int = 0

    @property
    def overhead(self) -> float:
        """The share of the workers' time that went to anything but evaluations, between 0 and 1."""
        return 1 - self.busy / self.available if self.available > 0 else 0.0

    def add(self, busy: float, available: float, wall: float) -> None:
        """Count more work."""
        self.busy += busy
        self.available += available
        self.wall += wall

    def keep(self, directory: Path) -> None:
        """Add this call to the file in the directory of a search, one entry a call. Raises RunError (E084)."""
        entry = {**{k: round(v, 3) for k, v in asdict(self).items()}, "overhead": round(self.overhead, 4)}
        files.write_text(directory / NAME, json.dumps([*read(directory), entry], indent=1) + "\n")


def read(directory: Path) -> list[dict[str, Any]]:
    """The entries of earlier calls in the directory of a search, the first one first; none where they are damaged."""
    try:
        return foreign.load(directory / NAME, _ENTRIES)
    except (OSError, ValueError):
        return []


_ENTRIES: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(list[dict[str, Any]])
