"""What users add: the registry, and the packages that fill it through the entry-point group `bcgraph.plugins`.

`bcgraph.register` fills the registry from Python. The rest of the package reads it through `find` and `in_text`, which
also know the scores and strategies of bcgraph itself (`bcgraph.plugins.standard`).
"""

from __future__ import annotations

from bcgraph.plugins.installed import GROUP, Installed, find, in_text, installed, known, load, load_all
from bcgraph.plugins.registry import KINDS, REGISTRY, Entry, Kind, Origin, PluginError, calling, reason
from bcgraph.plugins.standard import names

__all__ = [
    "GROUP",
    "KINDS",
    "REGISTRY",
    "Entry",
    "Installed",
    "Kind",
    "Origin",
    "PluginError",
    "calling",
    "find",
    "in_text",
    "installed",
    "known",
    "load",
    "load_all",
    "names",
    "reason",
]
