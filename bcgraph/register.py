"""Add your own layers, passes, targets, data sets, scores and strategies.

    import bcgraph

    bcgraph.register.score("depth", lambda model, x, y: float(len(list(model.modules()))))

What is registered works in `.bcg` texts, on the command line, in a search and from Python. A package registers when its
entry point in the group `bcgraph.plugins` is loaded; a text names it in a line `use "package"`. `registered()` and the
command `bcgraph plugins` show what there is. docs/extending.md has an example of each.

All functions raise PluginError: E036 when a name is taken, with both places, E005 when a name cannot stand in a text,
and E040 for what is not of the kind that it should be.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection
from typing import Any

from bcgraph.dsl.wording import KEYWORDS
from bcgraph.plugins import values
from bcgraph.plugins.installed import owner
from bcgraph.plugins.registry import KINDS, REGISTRY, TITLES, Entry, Kind, Origin, PluginError

__all__ = ["data", "forget", "registered", "score"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_ENDING = re.compile(r"\.[A-Za-z0-9_]{1,20}")


def registered(kind: Kind | None = None) -> tuple[Entry, ...]:
    """What is registered in this process, by kind and name, each with its `value` and its `origin`."""
    return tuple(entry for entry in REGISTRY.entries() if kind in (None, entry.kind))


def forget(kind: Kind, name: str) -> None:
    """Take out what is registered under a name, for instance to register it anew in a notebook. Raises LookupError."""
    entry = REGISTRY.get(kind, name)
    if entry is None:
        raise LookupError(f"no {TITLES.get(kind, kind)} `{name}` is registered; the kinds are {', '.join(KINDS)}")
    REGISTRY.remove(entry)


def data(name: str, source: Any) -> None:
    """A data set for `data = name(...)`.

    `source` is a map-style torch Dataset with items (x, y), a pair of them (train, test), or a function of one
    argument, the `bcgraph.data.sources.Request` of a network, that returns one of these or a
    `bcgraph.data.sources.DataSet`. Of a dataset without a test set a fixed 20 % of each class are held out.
    """
    from bcgraph.data.catalog import LOADERS

    sized = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if not sized and not callable(source):
        raise _wrong("a data set", name, "a torch Dataset, a pair of them, or a function that returns one", source)
    _add("data", name, values.Data(source, takes_request=not sized), LOADERS)


def score(name: str, measure: Callable[[Any, Any, Any], Any], *, label: str | None = None) -> None:
    """A training-free score for `scores = [...]` and `score = ...`: `measure(model, x, y)` is a number, the higher
    the better.

    `model` is the compiled network at initialization in eval mode with batch statistics, x `[N, C, H, W]` or
    `[T, N, C, H, W]` the one class-balanced batch of the search, y `[N]` its labels. All candidates of a search have
    the same weights wherever they have the same layers; what `measure` changes in them is undone. A value that is not
    finite counts as dead: it ranks last. `label` is what reports call the score.
    """
    from bcgraph.search.records.evaluations import FIELDS, FITNESS, MEASURES

    _callable("a score", name, measure)
    _add("score", name, values.Score(measure, label or name), (*FITNESS, *MEASURES, *FIELDS))


def _callable(what: str, name: str, given: Any) -> None:
    if not callable(given):
        raise _wrong(what, name, "a function", given)


def _wrong(what: str, name: str, wanted: str, given: Any) -> PluginError:
    return PluginError("E040", f"{what} is registered with {wanted}, but `{name}` with {type(given).__name__}")


def _add(kind: Kind, name: str, value: Any, taken: Collection[str], pattern: re.Pattern[str] = _NAME) -> None:
    if not isinstance(name, str) or not pattern.fullmatch(name) or name in KEYWORDS:
        hint = "a dot, then letters and digits" if pattern is _ENDING else "letters, digits and `_`, and no keyword"
        raise PluginError("E005", f"{name!r} cannot be the name of a {TITLES[kind]}", hint=hint)
    origin = _origin()
    if name in taken:
        raise PluginError(
            "E036",
            f"`{name}` is a {TITLES[kind]} of bcgraph itself",
            notes=(f"it is registered by {origin}",),
            hint="give yours another name",
        )
    REGISTRY.add(Entry(kind, name, value, origin))


def _origin() -> Origin:
    """Where the call stands that registers: the first frame outside of this module."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__") == __name__ and frame.f_back is not None:
        frame = frame.f_back
    package, version = owner(str(frame.f_globals.get("__name__", ""))) or (None, None)
    return Origin(frame.f_code.co_filename, frame.f_lineno, package, version)
