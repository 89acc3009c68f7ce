"""The script that judges predictors takes any table, and finds what a table was made of."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from random import Random

import pytest

from benchmarks.placement import predictors
from benchmarks.placement.predictors import Judged


def table(path: Path, rng: Random) -> dict[predictors.Pairs, float]:
    """All 121 architectures of five ports, as good as their own feedback, with some noise."""
    every = [(j, i) for j in range(5) for i in range(j + 1)]
    sets = [(), *[(p,) for p in every], *[(a, b) for k, a in enumerate(every) for b in every[k + 1 :]]]
    assert len(sets) == 121
    found = {}
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["backward", "seed", "accuracy"])
        for each in sets:
            found[each] = 0.7 + 0.02 * predictors.rule(each) + 0.005 * rng.random()
            for seed in (0, 1):
                written = " ".join(f"{j}>{i}" for j, i in each) or "none"
                rows.writerow([written, seed, found[each] + (0.001 if seed else -0.001)])
    return found


@pytest.fixture
def judged(tmp_path: Path) -> dict[str, Judged]:
    rng = Random(1)
    truth = table(tmp_path / "table.csv", rng)
    with (tmp_path / "values.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["seed", "backward", "n", "e", "supernet20"])
        for seed in (0, 1, 2):
            for each, value in truth.items():
                written = " ".join(f"{j}>{i}" for j, i in each) or "none"
                rows.writerow([seed, written, rng.random(), -value if seed else "", value + 0.02 * rng.gauss(0, 1)])
        rows.writerow([3, "none", 1, 2, 3])  # an unfinished seed
    found, shares = predictors.judged(tmp_path / "table.csv", tmp_path / "values.csv", predictors.SPEC)
    assert shares["connections, distance, target"] > 0.9
    return {row.name: row for row in found}


def test_each_predictor_is_worth_what_it_says(judged: dict[str, Judged]) -> None:
    assert judged["connections - distance"].kendall > 0.8
    assert judged["connections - distance"].partial is None
    assert judged["late locality"].partial is not None
    assert judged["e"].seeds == 2, "each predictor has its own seeds"
    assert judged["e"].kendall == pytest.approx(-1.0)
    assert judged["e"].partial == pytest.approx(-1.0)
    assert abs(judged["n"].kendall) < 0.2
    shot = judged["supernet20"]
    assert shot.seeds == 3, "a seed that lacks architectures is left out"
    assert 0.4 < shot.low < shot.kendall < shot.high < 1.0
    assert judged["supernet20, additive"].kendall > shot.kendall, "smoothing over connections takes noise away"
    assert {"e + supernet20", "e + supernet20, additive", "fewest operations"} <= judged.keys()
    assert judged["e + supernet20"].seeds == 2, "seeds that both have"


def test_the_command_takes_a_table_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path / "table.csv", Random(2))
    monkeypatch.setattr("sys.argv", ["predictors", "--table", str(tmp_path / "table.csv"), "--json"])
    predictors.main()
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["predictors"]] == [
        "fewest operations",
        "number of connections",
        "connections - distance",
        "late locality",
    ]
