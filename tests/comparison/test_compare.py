"""Training runs side by side: groups over seeds, means and tests, `bcgraph compare` and `bcgraph report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

import bcgraph
from bcgraph import training
from bcgraph.comparison import runs
from bcgraph.comparison.searches import pool
from bcgraph.comparison.statistics import Summary, difference
from bcgraph.comparison.table import compare
from bcgraph.errors import RunError
from tests.comparison.conftest import FAR, TEXT, kept

# --- Statistics ---------------------------------------------------------------------------------------------


def test_a_paired_test_is_that_of_scipy() -> None:
    a, b = {0: 0.80, 1: 0.82, 2: 0.81, 5: 0.9}, {0: 0.70, 1: 0.75, 2: 0.69, 7: 0.1}
    found = difference(a, b)
    expected = stats.ttest_rel([a[k] for k in (0, 1, 2)], [b[k] for k in (0, 1, 2)])
    assert (found.paired, found.pairs) == (True, 3)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.mean == pytest.approx(sum(a[k] - b[k] for k in (0, 1, 2)) / 3)


def test_without_common_seeds_it_is_welchs() -> None:
    found = difference({0: 0.8, 1: 0.82, 2: 0.85}, {7: 0.7, 8: 0.75})
    expected = stats.ttest_ind([0.8, 0.82, 0.85], [0.7, 0.75], equal_var=False)
    assert (found.paired, found.pairs) == (False, 0)
    assert found.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("a", "b", "mean", "p"),
    [
        ({0: 0.8}, {0: 0.7}, 0.1, None),
        ({0: 0.8, 1: 0.9}, {0: 0.7}, 0.15, None),
        ({0: 0.8, 1: 0.9}, {0: 0.7, 1: 0.8}, 0.1, None),
        ({0: 0.8, 1: 0.9}, {0: 0.8, 1: 0.9}, 0.0, 1.0),
        ({0: 0.8, 1: 0.8}, {2: 0.8, 3: 0.8}, 0.0, 1.0),
    ],
)
def test_where_a_test_knows_nothing_it_says_nothing(a: Any, b: Any, mean: float, p: float | None) -> None:
    found = difference(a, b)
    assert found.mean == pytest.approx(mean)
    assert found.p == p
    assert not found.sure


def test_a_summary_needs_two_values_for_a_deviation() -> None:
    assert str(Summary.of([0.5])) == "0.5000"
    assert str(Summary.of([0.5, 0.6])) == "0.5500 +- 0.0707"


# --- Groups -------------------------------------------------------------------------------------------------


def test_runs_that_differ_by_seed_alone_are_one_group(study: Path) -> None:
    groups = runs.group(runs.find(study))
    assert [(g.name, len(g.runs)) for g in groups] == [("layer2.0.lif2 -> lif1", 3), ("none", 3)]
    rows = compare(groups)
    assert rows.base == 1, "the base is the group without connections"
    far = rows.rows[0].difference
    assert far is not None
    assert far.mean == pytest.approx(-0.11)
    assert far.sure
    (verdict,) = rows.verdicts()
    assert verdict.startswith("layer2.0.lif2 -> lif1: worse than none by 0.1100 (p = 0.0")


def test_settings_tell_groups_of_one_network_apart(tmp_path: Path) -> None:
    for epochs in (2, 3):
        kept(tmp_path / f"{epochs}", 0, [0.5] * epochs, epochs=epochs)
    names = [g.name for g in runs.group(runs.find(tmp_path))]
    assert names == ["none (epochs 2)", "none (epochs 3)"]


def test_a_seed_counts_once_and_parts_of_data_do_not_mix(tmp_path: Path) -> None:
    one = runs.read(kept(tmp_path / "a", 0, [0.5, 0.6]))
    again = runs.read(kept(tmp_path / "b", 0, [0.5, 0.7]))
    (group,) = runs.group([one, again])
    assert group.by_seed == {0: 0.6}
    other = runs.read(kept(tmp_path / "c", 1, [0.5, 0.7], held_out="validation"))
    with pytest.raises(RunError, match="accuracies on different data do not compare"):
        runs.group([one, other])


def test_real_training_runs_are_read(tmp_path: Path) -> None:
    spec = bcgraph.parse(TEXT.format(backward=FAR, epochs=1))
    found = bcgraph.data.load(spec.data, spec.input, spec.steps)
    small = bcgraph.data.Splits(
        found.train.subset(range(128)), found.test.subset(range(64)), found.classes, found.mean, found.std
    )
    result = training.train(spec, out=tmp_path / "run", seed=5, splits=small)
    run = runs.read(tmp_path / "run")
    assert (run.seed, run.accuracy, run.finished, run.held_out) == (5, result.accuracy, True, "test")
    assert run.spec == spec
    # The log is written from the checkpoint, which tells.
    log = tmp_path / "run/log.csv"
    log.write_text(log.read_text().replace("1,", "7,", 1))
    assert runs.read(tmp_path / "run").history == run.history
    (tmp_path / "run/spec.bcg").write_text(TEXT.format(backward="", epochs=1))
    with pytest.raises(RunError, match="another network than"):
        runs.read(tmp_path / "run")


@pytest.mark.parametrize("damage", ["", "epoch,lr\n1,2\n", "epoch,lr,loss,train_accuracy,test_accuracy,seconds\n"])
def test_a_damaged_log_is_named(tmp_path: Path, damage: str) -> None:
    (kept(tmp_path / "a", 0, [0.5, 0.6]) / "log.csv").write_text(damage)
    with pytest.raises(RunError, match=r"log\.csv`"):
        runs.read(tmp_path / "a")


# --- Searches -----------------------------------------------------------------------------------------------


def test_pooled_connections_beside_chance() -> None:
    ports = tuple(f"p{k}" for k in range(6))
    front = pool([(ports, ((5, 0), (4, 1)))] * 6)
    assert front.targets() == [6, 6, 0, 0, 0, 0]
    assert front.expected() == pytest.approx([12 * (6 - k) / 21 for k in range(6)])
    assert "the front is favored" in front.verdict()
    assert "the front is avoided" in pool([(ports, ((5, 5), (4, 4)))] * 6).verdict()
    assert "no more than chance" in pool([(ports, ((5, 0), (4, 4)))]).verdict()
    assert pool([(ports, ())]).verdict() == "no search has found a connection"
    with pytest.raises(RunError, match="different ports"):
        pool([(ports, ()), (ports[:3], ())])
