"""The script for a GPU that is there for minutes: in pieces it trains what it trains in one go."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bcgraph import dsl
from benchmarks.placement import fashion, rows
from benchmarks.placement.fashion import Kept, Trained

TEXT = """
bcg 1

network small {
  input    = image(1, 8, 8)
  steps    = 2
  backbone = tiny(width=8, classes=10)
}

data = digits(batch=256)

search { evolve { strategy = gains; keep = 4; stages = 1 } }

train { epochs = 2; optimizer = adamw(lr=0.005) }
"""


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "DRAWS", 0)
    monkeypatch.setattr(fashion, "GAINS", (0.1,))


def epochs(kept: Kept) -> int:
    return sum(row.epoch > 0 for row in kept.rows())


def test_in_pieces(tmp_path: Path) -> None:
    spec = dsl.parse(TEXT)
    pieces, whole = (Kept(tmp_path / name / "rows.csv") for name in ("pieces", "whole"))
    logs = []
    for _ in range(20):
        try:
            fashion.run(spec, tmp_path / "pieces", seeds=1, minutes=0, device="cpu")
            break
        except fashion.OutOfTimeError:
            logs.append(epochs(pieces))
    # Two epochs of none, of the search, and of each of two placements, one at a time.
    assert logs == [1, 2, 2, 2, 3, 4, 5, 6]
    fashion.run(spec, tmp_path / "whole", seeds=1, minutes=60, device="cpu")
    assert [replace(row, seconds=0) for row in pieces.rows()] == [replace(row, seconds=0) for row in whole.rows()]
    assert fashion.summary(pieces) == fashion.summary(whole)
    assert fashion.summary(whole).count("\n") == 4
    placed = {row.connections: row.pairs.split() for row in whole.rows()}
    assert {name: len(set(pairs)) for name, pairs in placed.items()} == {"none": 0, "found": 4, "front": 4}


def test_a_table_is_enough_on_another_machine(tmp_path: Path) -> None:
    """Nothing that it says is finished is trained, and no search is repeated."""
    spec = dsl.parse(TEXT)
    fashion.run(spec, tmp_path / "one", seeds=1, minutes=60, device="cpu")
    kept = Kept(tmp_path / "rows.csv")
    first = Kept(tmp_path / "one" / "rows.csv").rows()
    rows.write(kept.path, Trained, [row for row in first if (row.connections, row.epoch) != ("found", 2)])
    fashion.run(spec, tmp_path / "other", seeds=1, minutes=60, device="cpu", kept=kept)
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["found-gain0.1-seed0"]
    assert fashion.summary(kept) == fashion.summary(Kept(tmp_path / "one" / "rows.csv"))


def test_a_killed_piece_resumes(tmp_path: Path) -> None:
    """The command, killed in the middle of an epoch, with the files of the data set in a folder of its own."""
    spec = tmp_path / "small.bcg"
    spec.write_text(TEXT.replace("batch=256", "batch=64").replace("epochs = 2", "epochs = 3"), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.placement.fashion", "--spec", str(spec), "--device", "cpu"]
    command += ["--out", str(tmp_path / "out"), "--seeds", "1", "--table", str(tmp_path / "table.csv")]
    kept = Kept(tmp_path / "table.csv")
    with subprocess.Popen([*command, "--minutes", "60"], stdout=subprocess.DEVNULL) as running:
        until = time.monotonic() + 120
        while not epochs(kept) and time.monotonic() < until:
            time.sleep(0.02)
        running.kill()
    before = kept.rows()
    assert before
    done = subprocess.run([*command, "--minutes", "0"], capture_output=True, text=True, check=True)
    assert "not finished: the same command resumes" in done.stdout
    assert kept.rows()[: len(before)] == before
    assert epochs(kept) > len(before)
