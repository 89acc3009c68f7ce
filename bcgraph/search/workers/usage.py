"""How well the workers of a run were used, kept in `workers.json`."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bcgraph import files

NAME = "workers.json"


@dataclass
class Usage:
    """Workers and threads of one call, and what they did.

    `busy` are the seconds spent on evaluations, summed over the workers, and `available` those that the workers were
    there while there was something to evaluate; `lost` workers, and tasks that were done `again` for that.
    """

    workers: int
    threads: int
    busy: float = 0.0
    available: float = 0.0
    wall: float = 0.0
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
        path = directory / NAME
        earlier: list[object] = []
        with suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
            earlier = found if isinstance(found, list) else []
        entry = {**{k: round(v, 3) for k, v in asdict(self).items()}, "overhead": round(self.overhead, 4)}
        files.write_text(path, json.dumps([*earlier, entry], indent=1) + "\n")

    def text(self) -> str:
        """One line for people."""
        lost = f", {self.lost} lost and replaced" if self.lost else ""
        return (
            f"{self.workers} workers{lost}: {self.busy:.1f} s of evaluations in {self.wall:.1f} s, "
            f"{self.overhead:.1%} overhead"
        )
