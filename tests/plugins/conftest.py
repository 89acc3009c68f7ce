"""A registry that each test leaves as it was, and packages that are installed for one test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from bcgraph import plugins

Install = Callable[..., Path]


def installed(site: Path, name: str, code: str, *, version: str = "1.0", point: str = "") -> Path:
    """Lay a package out in `site` as pip does: a module, and metadata with an entry point."""
    module = name.replace("-", "_")
    (site / f"{module}.py").write_text(dedent(code))
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[bcgraph.plugins]\n{name} = {point or module}\n")
    return site


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    yield
    for entry in plugins.REGISTRY.entries():
        plugins.REGISTRY.remove(entry)
    plugins.REGISTRY.loaded.clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)
    yield lambda *args, **options: installed(site, *args, **options)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]
