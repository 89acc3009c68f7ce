"""What bcgraph itself has of the kinds that are a folder of modules: a module each, which has the name that texts use.

Nothing lists them: a name is known when its file is there, and its module is imported when what it declares is needed.
A module of a score declares `SCORE`, one of a strategy `STRATEGY`, with the values that users register.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from bcgraph.lazy import modules
from bcgraph.plugins.registry import Entry, Kind, Origin

FOLDERS: Mapping[Kind, str] = {
    "score": "search/scores/standard",
    "strategy": "search/strategies/standard",
}
"""The folder of each such kind."""


def names(kind: Kind) -> tuple[str, ...]:
    """The names of all that bcgraph itself has of a kind, in order. Imports none of them."""
    return modules("bcgraph", FOLDERS[kind])


def module(kind: Kind, name: str) -> ModuleType:
    """The module of one of `names`."""
    return import_module(f"bcgraph.{FOLDERS[kind].replace('/', '.')}.{name}")


def declared(kind: Kind, name: str) -> Entry | None:
    """What bcgraph itself declares under a name; None where it has nothing of that name, or of that kind."""
    if kind not in FOLDERS or name not in names(kind):
        return None
    found = module(kind, name)
    return Entry(kind, name, getattr(found, kind.upper()), Origin(str(found.__file__), 1))
