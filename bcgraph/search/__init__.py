"""Search: operators on specs, scores, evolution, the study."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bcgraph.search.space import crossover, mutate, sample, space, space_size

if TYPE_CHECKING:
    from bcgraph.search.driver import SearchResult, run
    from bcgraph.search.events import Event
    from bcgraph.search.options import Options
    from bcgraph.search.records.history import history
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

# What only a search needs is loaded when it is first used: operators must not pay for it.
_WHERE = {
    "Event": "events",
    "Options": "options",
    "SearchResult": "driver",
    "evolve": "strategies.evolution",
    "history": "records.history",
    "run": "driver",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bcgraph.search.{_WHERE[name]}"), name)
