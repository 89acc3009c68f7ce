"""Search for backward connections: operators on specs, scores, evolution, and the history of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy
from bcgraph.search.space import crossover, mutate, sample, space, space_size

if TYPE_CHECKING:
    from bcgraph.search.driver import run
    from bcgraph.search.events import Event
    from bcgraph.search.options import Options
    from bcgraph.search.records.history import history
    from bcgraph.search.result import SearchResult
    from bcgraph.search.strategies.evolution import evolve

__all__ = [
    "Event",
    "Options",
    "SearchResult",
    "crossover",
    "evolve",
    "history",
    "mutate",
    "run",
    "sample",
    "space",
    "space_size",
]

__getattr__ = lazy.attach(
    __name__,
    {
        "Event": "bcgraph.search.events:Event",
        "Options": "bcgraph.search.options:Options",
        "SearchResult": "bcgraph.search.result:SearchResult",
        "evolve": "bcgraph.search.strategies.evolution:evolve",
        "history": "bcgraph.search.records.history:history",
        "run": "bcgraph.search.driver:run",
    },
)
