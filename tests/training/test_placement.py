"""The record of the exhaustive training in `benchmarks/placement`; the trainings themselves take hours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bcgraph import dsl
from benchmarks.placement import __main__ as placement
from benchmarks.placement import predictors, records, work
from benchmarks.placement.records import Record

SPEC = dsl.load(placement.SPEC)


def record(backward: str, seed: int = 0, accuracy: float = 0.5) -> Record:
    return Record(records.settings_of(SPEC), backward, seed, accuracy, accuracy, 0.25, 1.5)


def test_every_architecture_with_every_seed() -> None:
    jobs = work.jobs(SPEC, 2)
    keys = [(records.written(architecture), seed) for _, architecture, seed in jobs]
    assert len(set(keys)) == len(jobs) == 2 * 121
    assert keys[0] == ("none", 0)
    assert keys[121] == ("none", 1)
    text, architecture, _ = jobs[1]
    assert records.settings_of(dsl.parse(text).with_backward(architecture)) == records.settings_of(SPEC)


def test_records_come_back(tmp_path: Path) -> None:
    kept = [record("none"), record("4>0 2>2", 1, 0.1 + 0.2)]
    records.write(tmp_path / "p.csv", kept)
    assert list(placement.known(SPEC, tmp_path / "p.csv")) == kept
    assert placement.known(SPEC, tmp_path / "nothing.csv") == ()


def test_records_of_something_else(tmp_path: Path) -> None:
    records.write(tmp_path / "p.csv", [replace(record("none"), settings="0" * 12)])
    with pytest.raises(ValueError, match="other settings"):
        placement.known(SPEC, tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="other columns"):
        placement.known(SPEC, tmp_path / "p.csv")


def test_summary() -> None:
    found = (record("none", 0, 0.5), record("none", 1, 0.7), record("4>0", 0, 0.9), record("4>0 1>1", 0, 0.8))
    text = placement.summary(SPEC, found, top=1)
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("4 trainings, 3 of 121 architectures\n")
    assert ["1", "4>0", "0.9000", "-", "1"] in lines
    assert ["3", "none", "0.6000", "0.1414", "2"] in lines
    assert ["@0", "lif1", "0.8500", "2"] in lines
    assert "4>0 1>1" not in text
    assert placement.summary(SPEC, (), top=1) == "nothing is trained yet"


def test_what_is_done_is_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = [record(records.written(architecture), seed) for _, architecture, seed in work.jobs(SPEC, 1)]
    records.write(tmp_path / "p.csv", every)
    placement.run(SPEC, tmp_path / "p.csv", seeds=1, workers=1, limit=None)
    assert "121 done, 0 to do" in capsys.readouterr().out


def test_the_kept_table_is_whole() -> None:
    kept = placement.known(SPEC, predictors.TABLE)
    expected = {(records.written(architecture), seed) for _, architecture, seed in work.jobs(SPEC, 5)}
    assert {record.key for record in kept} == expected
    assert len(kept) == len(expected) == 605


def test_intervals_hold_the_correlation_that_they_are_of() -> None:
    truth = [float(i) for i in range(40)]
    low, high = predictors.interval([x if x > 10 else -x for x in truth], truth, seed=0)
    assert -1 < low < high < 1
    assert predictors.interval(truth, truth, seed=0) == pytest.approx((1.0, 1.0))
