"""The registry: what users have added, by kind and name, each with where it was registered.

There is one, `REGISTRY`, for the whole process. Nothing else in the package keeps what a user adds.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock, get_ident
from typing import Any, Literal, TypeAlias, get_args

from bcgraph.errors import BcgraphError
from bcgraph.machine import refuses

Kind: TypeAlias = Literal["layer", "pass", "target", "data", "score", "strategy", "predictor"]

KINDS: tuple[Kind, ...] = get_args(Kind)

TITLES: dict[Kind, str] = {
    "layer": "layer",
    "pass": "pass",
    "target": "target",
    "data": "data set",
    "score": "score",
    "strategy": "strategy",
    "predictor": "predictor",
}
"""What each kind is called in messages."""


class PluginError(BcgraphError):
    """A plugin is missing, cannot be loaded, takes a name that is taken, or has failed."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something was registered: a file and its line, and the plugin with its version if it comes from one."""

    file: str
    line: int
    package: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return place if self.package is None else f"the package `{self.package}` {self.version} ({place})"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something registered: one of `bcgraph.plugins.values`, or a pass."""

    kind: Kind
    name: str
    value: Any
    origin: Origin

    @property
    def title(self) -> str:
        """What messages call it: ``the score `depth` ``."""
        return f"the {TITLES[self.kind]} `{self.name}`"


@dataclass(frozen=True, slots=True, eq=False)
class Loading:
    """A plugin that is being loaded by a thread, and what it has `added` so far."""

    name: str
    version: str
    thread: int = field(default_factory=get_ident)
    added: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Registry:
    """Entries by kind and name. Safe to use from several threads.

    What is registered in the thread that loads a plugin belongs to it. `turns` is held meanwhile, but not `lock`:
    another thread may import the same module by itself, and registers while the first one waits for it.
    """

    _entries: dict[tuple[Kind, str], Entry] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock)
    turns: RLock = field(default_factory=RLock)
    loaded: set[str] = field(default_factory=set)
    _loading: Loading | None = None

    @property
    def loading(self) -> Loading | None:
        """The plugin that this thread loads."""
        found = self._loading
        return found if found is not None and found.thread == get_ident() else None

    @loading.setter
    def loading(self, value: Loading | None) -> None:
        self._loading = value

    def add(self, entry: Entry) -> None:
        """Add an entry. Raises PluginError (E036) when its name is taken, with both places."""
        with self.lock:
            earlier = self._entries.get((entry.kind, entry.name))
            if earlier is not None:
                raise PluginError(
                    "E036",
                    f"{entry.title} is registered twice",
                    notes=(f"first by {earlier.origin}", f"then by {entry.origin}"),
                    hint="give one of them another name; `bcgraph.register.forget` takes one out",
                )
            self._entries[entry.kind, entry.name] = entry
            if self.loading is not None:
                self.loading.added.append(entry)

    def get(self, kind: Kind, name: str) -> Entry | None:
        """The entry of that kind and name, None where there is none. Loads nothing."""
        return self._entries.get((kind, name))

    def entries(self) -> tuple[Entry, ...]:
        """All entries, by kind in the order of `KINDS`, then by name."""
        with self.lock:
            found = list(self._entries.values())
        return tuple(sorted(found, key=lambda e: (KINDS.index(e.kind), e.name)))

    def remove(self, entry: Entry) -> None:
        """Take an entry out."""
        with self.lock:
            self._entries.pop((entry.kind, entry.name), None)


REGISTRY = Registry()
"""The one registry of the process. `bcgraph.register.registered()` and `bcgraph plugins` show what is in it."""


@contextmanager
def calling(entry: Entry, code: str = "E095") -> Iterator[None]:
    """Within, whatever a user's function raises becomes a PluginError that names the entry, the reason and the line."""
    try:
        yield
    except BcgraphError:
        raise
    except Exception as error:
        if refuses(error):
            raise
        raise PluginError(
            code, f"{entry.title} has failed: {reason(error)}", notes=(f"it is registered by {entry.origin}", at(error))
        ) from error


def reason(error: BaseException) -> str:
    """The type of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def at(error: BaseException) -> str:
    """Where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"raised at {frames[-1].filename}:{frames[-1].lineno}" if frames else "raised nowhere"
