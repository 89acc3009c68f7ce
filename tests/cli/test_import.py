"""`bcgraph import` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

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
