"""The package as its users get it: built, installed and imported from outside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAPPED = {"compiler": "bcgraph.compiler", "specs": "bcgraph.specs", "bcgraph": "bcgraph"}

PROBE = """
import sys
from importlib import resources
from importlib.util import find_spec

import bcgraph
import bcgraph.compiler
import bcgraph.specs

assert find_spec("compiler") is None, "the folder compiler/ is visible under its own name"
assert find_spec("specs") is None, "the folder specs/ is visible under its own name"
assert resources.files("bcgraph.dsl.grammar").joinpath("grammar.lark").read_text()
assert resources.files("bcgraph.dsl.grammar").joinpath("tables.json").read_text()
assert resources.files("bcgraph.specs.backbones").joinpath("resnet18.bcg").read_text()
spec = bcgraph.load(str(resources.files("bcgraph.specs").joinpath("tiny_digits_rows.bcg")))
assert len(spec.ports) == 5, spec.ports
print(bcgraph.__file__)
"""


def outside(command: list[str], cwd: Path, **env: str) -> str:
    """Run `command` away from the repository and without its path; returns what it prints."""
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "MYPYPATH"}}
    done = subprocess.run(command, cwd=cwd, env=clean | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that building leaves nothing in the repository and finds nothing stale there."""
    copy = tmp_path_factory.mktemp("tree") / "bcgraph"
    copy.mkdir()
    for folder in MAPPED:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy / file)
    return copy


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        ".".join([name, *init.parent.relative_to(ROOT / folder).parts])
        for folder, name in MAPPED.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found == listed


def test_every_data_file_is_declared() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for folder, name in MAPPED.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_dir() or path.suffix in {".py", ".pyc"}:
                continue
            package = ".".join([name, *path.parent.relative_to(ROOT / folder).parts])
            assert any(path.match(pattern) for pattern in data.get(package, [])), f"{path} would not be installed"


@pytest.mark.slow
def test_wheel(tree: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    outside([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path / "dist"), str(tree)], tmp_path)
    (wheel,) = (tmp_path / "dist").glob("bcgraph-*.whl")
    site = tmp_path / "site"
    outside([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], tmp_path)
    # PYTHONPATH comes before site-packages and so before an editable install of the repository.
    printed = outside([sys.executable, "-c", PROBE], tmp_path, PYTHONPATH=str(site))
    assert Path(printed.strip()).is_relative_to(site)
    shown = outside([sys.executable, "-m", "bcgraph", "--version"], tmp_path, PYTHONPATH=str(site))
    assert shown.startswith("bcgraph ")


@pytest.mark.slow
def test_editable(tree: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    outside([sys.executable, "-m", "venv", "--without-pip", str(venv)], tmp_path)
    python = str(venv / "bin" / "python")
    (packages,) = (venv / "lib").glob("python*/site-packages")
    # What bcgraph depends on is borrowed from this environment instead of being installed a second time. A path that
    # a .pth file names comes after the packages of the environment itself, and no .pth file in it is read, so that an
    # editable bcgraph of this environment stays out of the way.
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    install = ["install", "--ignore-installed", "--no-deps", "--no-build-isolation", "--editable", str(tree)]
    outside([*pip, *install], tmp_path)
    printed = outside([python, "-c", PROBE], tmp_path)
    assert Path(printed.strip()).is_relative_to(tree)
    assert list(packages.glob("*bcgraph*"))
