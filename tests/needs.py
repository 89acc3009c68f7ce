"""What some tests need beside Python packages. Where it is missing they are skipped, but never in CI."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

CI = "BCGRAPH_CI"
"""Set by `.ci/run`, which installs all of it."""


def missing(what: str) -> NoReturn:
    """Skip the test, loudly; in CI, fail it."""
    if os.environ.get(CI):
        pytest.fail(f"{what}, though CI should have it", pytrace=False)
    pytest.skip(f"{what}: this was not tested")


def program(*names: str, folders: tuple[str, ...] = ()) -> Path:
    """The first of these programs that there is, on the path or in one of `folders`."""
    for name in names:
        if found := shutil.which(name):
            return Path(found)
        for folder in folders:
            if (Path(folder) / name).is_file():
                return Path(folder) / name
    missing(f"there is no program `{names[0]}` on this machine")


def folder(what: str, *places: Path) -> Path:
    """The first of these folders that there is."""
    found = next((place for place in places if place.is_dir()), None)
    return found or missing(f"{what} is not on this machine")


def package(name: str) -> ModuleType:
    """A Python package that only developers install."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"the package `{name.split('.')[0]}` is not installed")


def optional(name: str) -> Path:
    """A program that CI does without; the test is skipped where it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no program `{name}` on this machine: this was not tested")
    return Path(found)


def optional_package(name: str) -> Any:
    """A Python package that CI does without; the test is skipped where it is not."""
    return pytest.importorskip(name, reason=f"there is no package `{name}` here: this was not tested")
