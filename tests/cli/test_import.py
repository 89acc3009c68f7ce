"""`bcgraph import` as it is typed."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest

from tests.cli.conftest import Command

OWN = Path(__file__).parents[1] / "importing" / "own.py"


def test_a_file_of_a_users_own(bcgraph: Command, tmp_path: Path) -> None:
    wanted = ["import", f"{OWN}:Net", "--example", "1x3x24x24", "-o", "net.bcg", "--set", "classes=3"]
    done = bcgraph(*wanted, "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["error"] <= 1e-9
    assert data["spec"] == "net.bcg"
    assert data["weights"] == "net.safetensors"
    assert data["ports"][0] == "stem.relu"
    checked = bcgraph("check", "net.bcg")
    assert checked.code == 0
    assert f"{len(data['ports'])} ports" in checked.out
    text = (tmp_path / "net.bcg").read_text()
    assert bcgraph("fmt", "net.bcg").code == 0
    assert (tmp_path / "net.bcg").read_text() == text


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("torch.nn", "names no callable"),
        ("nowhere.at.all:Net", "there is no module `nowhere`"),
        ("torch.nn:Lineer", "did you mean `Linear`?"),
        ("none.py:Net", "there is no file `none.py`"),
        ("broken.py:Net", "division by zero"),
        ("other.py:make", "gives no torch module, but int"),
        ("torch.nn:Linear", "missing 2 required"),
    ],
)
def test_sources_that_are_none(bcgraph: Command, source: str, part: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")
    (tmp_path / "other.py").write_text("def make():\n    return 3\n")
    assert part in bcgraph("import", source, "--example", "1x3", "-o", "net.bcg").fault("E110")
    assert not (tmp_path / "net.bcg").exists()


def test_wrong_usage(bcgraph: Command) -> None:
    for example in ("3", "1x0x3", "axb", "1x2x3x4x5"):
        assert bcgraph("import", f"{OWN}:Net", "--example", example, "-o", "net.bcg").code == 2
    wrong = ("--example", "1x3x24x24", "-o", "x.bcg", "--set", "7")
    assert "is no setting" in bcgraph("import", f"{OWN}:Net", *wrong).fault("E110")


def test_a_nir_file_of_others(bcgraph: Command, tmp_path: Path) -> None:
    """It is imported, and run on a data set as the network that it is imported to."""
    draw = np.random.default_rng(1)
    one = np.ones(64, np.float32)
    nodes = {
        "in": nir.Input({"input": np.array([1, 8, 8])}),
        "flat": nir.Flatten({"input": np.array([1, 8, 8])}, 0, -1),
        "fire": nir.IF(r=1e4 * one, v_threshold=one, v_reset=0 * one),
        "fc": nir.Affine(draw.normal(size=(10, 64)).astype(np.float32), np.zeros(10, np.float32)),
        "out": nir.Output({"output": np.array([10])}),
    }
    nir.write(tmp_path / "net.nir", nir.NIRGraph(nodes, list(pairwise(nodes))))
    done = bcgraph("import", "net.nir", "-o", "net.bcg", "--steps", "2")
    assert done.code == 0, done.err
    assert "net.bcg: 1 ports; differs from the graph by 0 in float32" in done.out
    tested = bcgraph("eval", "net.bcg", "--weights", "net.safetensors", "--set", "data=digits()", "--json")
    assert tested.code == 0, tested.err
    done = bcgraph("run", "net.nir", "--data", "digits", "--steps", "2", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["accuracy"] == json.loads(tested.out)["accuracy"]
    assert bcgraph("run", "net.nir", "--data", "digits", "--dt", "0").code == 2
    assert bcgraph("import", "net.nir", "-o", "net.bcg", "--example", "1x3").code == 2
    assert bcgraph("import", "torch.nn:Identity", "-o", "net.bcg").code == 2
