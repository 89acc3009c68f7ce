"""Histories of Optuna's samplers do not depend on its version: every default that changed is given."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from bcgraph import schema
from bcgraph.search.strategies import selection
from bcgraph.search.strategies.evolution import evolve
from tests.search import landscape

ROOT = Path(__file__).parent.parent.parent
STRATEGIES = ("tpe", "nsga2", "nsga3")
# Of TPE and NSGA-II as they were before anything of them was written out.
PINNED = {"tpe": "118d82e9548894c5", "nsga2": "66d684af7b5e48fe", "nsga3": "9f7861f0901f776a"}


def histories() -> dict[str, str]:
    """A digest of a search by each sampler."""
    found = {}
    for strategy in STRATEGIES:
        evolution = schema.EvolveSpec(strategy=strategy, iterations=5, top=4, population=8, offspring=3)
        spec = landscape.spec(8, evolve=evolution)
        run = evolve(spec, landscape.Fake(), seed=0, initial=selection.unscored(spec, 0))
        data = json.dumps([record.as_data() for record in run])
        found[strategy] = hashlib.sha256(data.encode()).hexdigest()[:16]
    return found


def test_histories_are_as_they_were() -> None:
    assert histories() == PINNED


def test_no_private_part_of_optuna_is_used() -> None:
    for path in (ROOT / "bcgraph").rglob("*.py"):
        text = path.read_text()
        if "optuna" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
                assert not any(part.startswith("_") for part in (node.module or "").split(".")), path
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                owner = ast.unparse(node.value).lower()
                assert owner == "self" or not any(word in owner for word in ("optuna", "study", "trial", "sampler")), (
                    path
                )


@pytest.mark.slow
def test_the_other_version_of_optuna_gives_the_same_histories(tmp_path: Path) -> None:
    """One of version 4 beside one of version 5, from PyPI; skipped where PyPI cannot be reached."""
    other = "optuna>=5,<6" if optuna.__version__.startswith("4.") else "optuna>=4.5,<5"
    asked = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), other]
    try:
        done = subprocess.run(asked, capture_output=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("PyPI does not answer")
    if done.returncode:
        pytest.skip(f"{other} could not be installed")
    code = "import json, optuna; from tests.search.test_optuna_versions import histories; print(optuna.__version__);"
    code += "print(json.dumps(histories()))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, cwd=ROOT, check=True)
    version, found = ran.stdout.decode().splitlines()[-2:]
    assert version.split(".")[0] != optuna.__version__.split(".")[0]
    assert json.loads(found) == histories()
