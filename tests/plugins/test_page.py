"""`docs/extending.md`: every example runs, and its package is laid out and used as the page says."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from bcgraph import plugins
from tests import forked
from tests.plugins.conftest import installed

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks("python"):
        exec(compile(block, "docs/extending.md", "exec", dont_inherit=True), names)
    assert {entry.kind for entry in plugins.REGISTRY.entries()} == set(plugins.KINDS)


def test_every_row_has_an_example() -> None:
    rows = re.findall(r"^\| (an? [a-z ]+) \|", PAGE.partition("## Adding to bcgraph itself")[2], re.MULTILINE)
    assert len(rows) == 9
    for row in rows:
        assert f"\n## {row[0].upper()}{row[1:]}\n" in PAGE


def test_the_package(tmp_path: Path) -> None:
    (project,) = (tomllib.loads(block) for block in blocks("toml"))
    (code,) = blocks("python plugin")
    name, version = project["project"]["name"], project["project"]["version"]
    ((point, module),) = project["project"]["entry-points"][plugins.GROUP].items()
    assert (point, [module]) == (name, project["tool"]["setuptools"]["py-modules"])
    installed(tmp_path, name, code, version=version, point=module)
    (text,) = blocks("bcg")
    (tmp_path / "net.bcg").write_text(text)
    (shown,) = blocks("console")
    printed = ""
    for line in shown.splitlines():
        if line.startswith("$ bcgraph "):
            command = [sys.executable, "-m", "bcgraph", *line.split()[2:]]
            environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
            done = forked.run(command, text=True, env=environment, cwd=tmp_path, check=True)
            printed += f"{line}\n{done.stdout}"
    assert [line.rstrip() for line in printed.splitlines()] == shown.splitlines()
