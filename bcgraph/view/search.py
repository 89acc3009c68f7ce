"""What the page of a search shows: how far it is, and its report, while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcgraph import search
from bcgraph.search.records.directory import specification
from bcgraph.viz import report


@dataclass(frozen=True)
class SearchPage:
    """The search in a directory."""

    directory: Path

    def state(self) -> dict[str, Any]:
        """How many evaluations there are, the best one, and whether it has finished. Raises RunError."""
        found = search.history(self.directory)
        stages = [e["stage"] for e in found["evaluations"]]
        chosen = found["chosen"]
        return {
            "spec": found["spec"],
            "scored": stages.count("init"),
            "evaluated": stages.count("evolve"),
            "best": None if chosen is None else chosen["backward"],
            "accuracy": None if chosen is None else chosen["accuracy"],
            "finished": found["finished"],
        }

    def report(self) -> str:
        """The report of the search so far, as a page. Raises RunError."""
        return report.page(search.history(self.directory), specification(self.directory))
