"""What bcgraph itself has of the kinds that are a folder of modules: a module each, which has the name that texts use.

Nothing lists them: a name is known when its file is there, and its module is imported when what it declares is needed.
A module of a score declares `SCORE`, one of a strategy `STRATEGY`, one of a predictor `PREDICTOR`, with the values that
users register, and one of a data set `DATA_SET`. Folders in the folder of a kind only sort its modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import ModuleType

from bcgraph.lazy import homes
from bcgraph.plugins.registry import Entry, Kind, Origin

FOLDERS: Mapping[Kind, str] = {
    "data": "data/sets",
    "score": "search/scores/standard",
    "strategy": "search/strategies/standard",
    "predictor": "search/predictors/standard",
}
"""The folder of each such kind."""


def names(kind: Kind) -> tuple[str, ...]:
    """The names of all that bcgraph itself has of a kind, in order. Imports none of them."""
    return tuple(_homes(kind))


def module(kind: Kind, name: str) -> ModuleType:
    """The module of one of `names`."""
    return import_module(_homes(kind)[name])


@cache
def _homes(kind: Kind) -> Mapping[str, str]:
    return homes("bcgraph", FOLDERS[kind])


def declared(kind: Kind, name: str) -> Entry | None:
    """What bcgraph itself declares under a name as users register it; None where it has nothing of that kind and name.

    A data set is declared in another way (`bcgraph.data.declaration`).
    """
    if kind == "data" or kind not in FOLDERS or name not in names(kind):
        return None
    found = module(kind, name)
    return Entry(kind, name, getattr(found, kind.upper()), Origin(str(found.__file__), 1))
