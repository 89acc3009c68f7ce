"""`bcgraph compare`, `bcgraph report` of a training run, and `--set`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Command
from tests.comparison.conftest import study as study


def test_compare_prints_draws_and_gives_data(bcgraph: Command, study: Path, tmp_path: Path) -> None:
    told = bcgraph("compare", study, "--out", "runs.svg")
    assert told.code == 0
    assert "none                       3  0.8100 +- 0.0100" in told.out
    assert "layer2.0.lif2 -> lif1: worse than none" in told.out
    assert (tmp_path / "runs.svg").read_text().startswith("<?xml")
    data = json.loads(bcgraph("compare", study / "none-0", study / "far-0", "--json").out)
    assert [g["name"] for g in data["groups"]] == ["none", "layer2.0.lif2 -> lif1"]
    assert data["groups"][1]["difference"]["p"] is None
    assert (data["base"], data["held_out"], data["pooled"]) == ("none", "test", None)
    wrong = bcgraph("compare", tmp_path / "nothing")
    assert (wrong.code, "Traceback" in wrong.err) == (1, False)
    assert bcgraph("compare", study, "--pooled", "x.svg").code == 2
    assert bcgraph("compare", study, "--out", "x.pdf").code == 1


def test_report_of_a_training_run_has_its_curves(bcgraph: Command, study: Path, tmp_path: Path) -> None:
    told = bcgraph("report", study / "far-1", "--out", "curves.svg")
    assert told.code == 0
    assert "wiring    layer2.0.lif2 -> lif1" in told.out
    assert "accuracy  0.7100 on test data after the last epoch" in told.out
    first = (tmp_path / "curves.svg").read_bytes()
    bcgraph("report", study / "far-1", "--out", "curves.svg")
    assert (tmp_path / "curves.svg").read_bytes() == first
    data = json.loads(bcgraph("report", study / "far-1", "--json").out)
    assert [p["held_out"] for p in data["history"]] == [0.1, 0.71]


def test_a_setting_beside_the_file_is_kept_with_the_run(bcgraph: Command, tmp_path: Path) -> None:
    (tmp_path / "net.bcg").write_text(
        "bcg 1\nnetwork n { input = image(1, 8, 8); steps = 2; backbone = tiny(width=2) }\n"
    )
    shown = json.loads(bcgraph("show", "net.bcg", "--set", "steps=3", "--json").out)
    assert shown["spec"]["steps"] == 3
    short = ("--set", "train.epochs=1", "--set", "data.batch=600")
    assert bcgraph("train", "net.bcg", "--out", "run", *short).code == 0
    kept = (tmp_path / "run/spec.bcg").read_text()
    assert "epochs    = 1" in kept
    assert "batch=600" in kept
    other = bcgraph("train", "net.bcg", "--out", "run", *short, "--set", "steps=3")
    assert (other.code, "Traceback" in other.err) == (1, False)
    wrong = bcgraph("train", "net.bcg", "--out", "new", "--set", "train.epoch=1")
    assert wrong.code == 1
    assert "--set:1:1: error[E032]: there is no setting `train.epoch`" in wrong.err
    assert "did you mean `train.epochs`?" in wrong.err
