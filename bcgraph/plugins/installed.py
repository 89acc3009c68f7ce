"""Plugins: packages with an entry point in the group `bcgraph.plugins`.

An entry point names a module, which registers when it is imported, or a function in one, which registers when it is
called. Its name is that of the plugin, which a file gives in its `use` line. Only these are ever imported.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bcgraph.errors import BcgraphError, nearest
from bcgraph.plugins.registry import REGISTRY, Entry, Kind, Loading, PluginError, at, reason
from bcgraph.plugins.standard import declared

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "bcgraph.plugins"
"""The entry-point group."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed plugin. `package` is the distribution that brings it."""

    name: str
    package: str
    version: str
    point: EntryPoint

    @property
    def module(self) -> str:
        """The module that it loads."""
        return self.point.module


def installed() -> tuple[Installed, ...]:
    """All installed plugins, by name. Imports none of them."""
    # Imported here, since most files use no plugin.
    from importlib.metadata import entry_points

    found = []
    for point in entry_points(group=GROUP):
        dist = point.dist
        package, version = (dist.name, dist.version) if dist is not None else (point.name, "")
        found.append(Installed(point.name, package, version, point))
    return tuple(sorted(set(found), key=lambda each: (each.name, each.package)))


def load(name: str) -> None:
    """Load the plugin of that name, if it is not loaded yet.

    Raises PluginError: E024 when none is installed under that name, several are, or loading it fails; E036 when it
    takes a name that is taken. Nothing of a plugin that fails stays registered.
    """
    with REGISTRY.turns:
        if name in REGISTRY.loaded:
            return
        _load(_the_one(name))
        REGISTRY.loaded.add(name)


def load_all() -> tuple[PluginError, ...]:
    """Load every installed plugin; returns why some could not be."""
    failed = []
    for name in dict.fromkeys(each.name for each in installed()):
        try:
            load(name)
        except PluginError as error:
            failed.append(error)
    return tuple(failed)


def known(kind: Kind, name: str) -> Entry | None:
    """What bcgraph itself declares, or is registered by now, under a name; None where nothing is. Loads no plugin."""
    return declared(kind, name) or REGISTRY.get(kind, name)


def find(kind: Kind, name: str, uses: Iterable[str] = ()) -> Entry | None:
    """What bcgraph itself declares or a user has registered under a name; None where nothing is.

    Where nothing is yet, the plugins in `uses` are loaded, then all that are installed.
    """
    entry = known(kind, name)
    for package in uses if entry is None else ():
        load(package)
        entry = entry or REGISTRY.get(kind, name)
    if entry is None:
        load_all()
        entry = REGISTRY.get(kind, name)
    return entry


def in_text(kind: Kind, name: str, uses: Collection[str]) -> Entry | None:
    """What a name means in a text that has a `use` line for each of `uses`, which are loaded; None where nothing.

    What was registered by a call in this process needs no such line. Raises PluginError (E025) when a plugin that the
    text does not use has the name.
    """
    entry = find(kind, name)
    if entry is not None and entry.origin.package is not None and entry.origin.package not in uses:
        raise PluginError(
            "E025",
            f"{entry.title} comes from the package `{entry.origin.package}`, which this file does not use",
            hint=f'write `use "{entry.origin.package}"` after `bcg 1`',
        )
    return entry


def owner(module: str) -> tuple[str, str] | None:
    """The plugin that a module belongs to, with its version: the one being loaded, or one whose entry point it is."""
    if REGISTRY.loading is not None:
        return REGISTRY.loading.name, REGISTRY.loading.version
    for each in installed():
        root = each.module.partition(".")[0]
        if module == each.module or module.partition(".")[0] == root:
            return each.name, each.version
    return None


def _the_one(name: str) -> Installed:
    every = installed()
    found = [each for each in every if each.name == name]
    if not _NAME.fullmatch(name):
        raise PluginError("E024", "this cannot be the name of a package", hint="letters, digits, `.`, `-` and `_`")
    if not found:
        of_package = [each.name for each in every if each.package == name]
        hint = (
            f'its plugin is called otherwise: write `use "{of_package[0]}"`'
            if of_package
            else nearest(name, [each.name for each in every])
            or f"`pip install {name}` installs a package; it is a plugin if it has an entry point in `{GROUP}`"
        )
        raise PluginError("E024", f"the plugin `{name}` is not installed", hint=hint)
    if len({each.package for each in found}) > 1:
        packages = " and ".join(f"`{each.package}`" for each in found)
        raise PluginError("E024", f"two packages have a plugin `{name}`: {packages}", hint="uninstall one of them")
    return found[0]


def _load(plugin: Installed) -> None:
    outer = REGISTRY.loading
    REGISTRY.loading = loading = Loading(plugin.name, plugin.version)
    try:
        loaded = plugin.point.load()
        if plugin.point.attr:
            loaded()
    except KeyboardInterrupt:
        _undo(loading.added)
        raise
    except BaseException as error:
        _undo(loading.added)
        raise _failed(plugin, error) from error
    finally:
        REGISTRY.loading = outer


def _undo(added: Iterable[Entry]) -> None:
    for entry in added:
        REGISTRY.remove(entry)


def _failed(plugin: Installed, error: BaseException) -> PluginError:
    cannot = f"the plugin `{plugin.name}` ({plugin.package} {plugin.version}) cannot be loaded"
    if isinstance(error, BcgraphError):
        first = error.diagnostics[0]
        return PluginError(first.code, f"{cannot}: {first.message}", notes=first.notes, hint=first.hint)
    return PluginError(
        "E024",
        f"{cannot}: {reason(error)}",
        notes=(at(error),),
        hint=f"`pip install --upgrade {plugin.package}`, or ask those who maintain it",
    )
