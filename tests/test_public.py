"""What the package offers by name, and what using it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bcgraph

ROOT = Path(__file__).parent.parent

PUBLIC = {
    "BackwardConnection",
    "BcgraphError",
    "ForwardConnection",
    "NetworkSpec",
    "compile",
    "compiler",
    "data",
    "draw",
    "export",
    "format",
    "from_nir",
    "from_torch",
    "load",
    "parse",
    "profile",
    "raster",
    "record",
    "register",
    "runtime",
    "scores",
    "search",
    "train",
    "training",
    "weights",
}


def imported(code: str) -> set[str]:
    """The names of the packages that are loaded once `code` has run in a new interpreter."""
    probe = f"{code}\nimport sys; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.splitlines()[-1].split())


def test_names() -> None:
    assert set(bcgraph.__all__) == PUBLIC
    assert set(dir(bcgraph)) == PUBLIC | {"__version__"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_name_resolves(name: str) -> None:
    assert getattr(bcgraph, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bcgraph.nothing


def test_import_is_light() -> None:
    assert not imported("import bcgraph") & {"torch", "numpy", "pydantic", "lark", "typer"}


def test_reading_and_searching_specs_is_light() -> None:
    code = """
import random, bcgraph
spec = bcgraph.load("specs/tiny_digits_rows.bcg")
bcgraph.parse(bcgraph.format(spec))
bcgraph.search.sample(spec, random.Random(0))
bcgraph.compiler.lower(spec)
"""
    assert not imported(code) & {"torch", "sklearn", "matplotlib", "onnx", "onnxruntime", "optuna"}


def test_a_strategy_is_named_without_what_it_runs_on() -> None:
    code = "import sys, bcgraph; bcgraph.load('specs/digits.bcg'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "bcgraph.search.strategies.standard.evolutionary" in loaded
    assert not loaded & {"bcgraph.search.strategies.population", "bcgraph.search.records", "bcgraph.profile"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "specs/tiny_digits_rows.bcg"],
        ["fmt", "--check", "specs/tiny_digits_rows.bcg"],
        ["show", "specs/tiny_digits_rows.bcg"],
        ["show", "--graph", "specs/tiny_digits_rows.bcg"],
        ["schema"],
        ["--help"],
    ],
    ids=" ".join,
)
def test_commands_that_need_no_torch_import_none(arguments: list[str]) -> None:
    code = f"""
import sys
from bcgraph.cli.main import main
sys.argv = ["bcgraph", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert not imported(code) & {"torch", "sklearn", "matplotlib", "onnx", "onnxruntime", "optuna"}
