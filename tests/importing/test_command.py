"""`bcgraph import` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

OWN = Path(__file__).with_name("own.py")


def run(*arguments: object, at: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "bcgraph", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=at, check=False)


def test_a_file_of_a_users_own(tmp_path: Path) -> None:
    wanted = ["import", f"{OWN}:Net", "--example", "1x3x24x24", "-o", "net.bcg", "--set", "classes=3"]
    done = run(*wanted, "--json", at=tmp_path)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["error"] <= 1e-9
    assert data["spec"] == "net.bcg"
    assert data["weights"] == "net.safetensors"
    assert data["ports"][0] == "stem.relu"
    checked = run("check", "net.bcg", at=tmp_path)
    assert checked.returncode == 0
    assert f"{len(data['ports'])} ports" in checked.stdout
    text = (tmp_path / "net.bcg").read_text()
    assert run("fmt", "net.bcg", at=tmp_path).returncode == 0
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
def test_sources_that_are_none(source: str, part: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")
    (tmp_path / "other.py").write_text("def make():\n    return 3\n")
    done = run("import", source, "--example", "1x3", "-o", "net.bcg", at=tmp_path)
    assert done.returncode == 1
    assert "E110" in done.stderr
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "net.bcg").exists()


def test_wrong_usage(tmp_path: Path) -> None:
    for example in ("3", "1x0x3", "axb", "1x2x3x4x5"):
        assert run("import", f"{OWN}:Net", "--example", example, "-o", "net.bcg", at=tmp_path).returncode == 2
    assert (
        run("import", f"{OWN}:Net", "--example", "1x3x24x24", "-o", "x.bcg", "--set", "7", at=tmp_path).returncode == 1
    )
