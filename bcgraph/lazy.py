"""Names of a package that are loaded when they are first used, so that importing it stays cheap."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any


def attach(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of `package`. `homes` says for each name in which module it stands.

    A home such as `bcgraph.dsl:load` names a value in a module, one without a colon the module itself.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = homes[name].partition(":")
        loaded = import_module(module)
        value = getattr(loaded, attribute) if attribute else loaded
        # Kept, so that it is looked up once. A submodule of the same name must not take the place of a value.
        setattr(sys.modules[package], name, value)
        return value

    return get


class Module:
    """A module that is imported when something of it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self._name), name)
        self.__dict__[name] = value
        return value


def modules(package: str, folder: str = ".") -> tuple[str, ...]:
    """The names of the modules and packages in a folder of `package`, in order. Imports none of them."""
    names = set()
    for each in files(package).joinpath(folder).iterdir():
        name = each.name.removesuffix(".py")
        if not name.startswith("_") and (name != each.name or each.joinpath("__init__.py").is_file()):
            names.add(name)
    return tuple(sorted(names))


def homes(package: str, folder: str) -> dict[str, str]:
    """The modules in a folder of `package` and in its folders: each name with the path to import. Imports none of them.

    Names are those of the files, in order.
    """
    found = dict(_homes(files(package).joinpath(folder), f"{package}.{folder.replace('/', '.')}"))
    return dict(sorted(found.items()))


def _homes(folder: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for each in folder.iterdir():
        name = each.name.removesuffix(".py")
        if name.startswith("_"):
            continue
        if name != each.name:
            yield name, f"{path}.{name}"
        elif each.joinpath("__init__.py").is_file():
            yield from _homes(each, f"{path}.{name}")
