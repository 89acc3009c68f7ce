"""`benchmarks/placement/gains.py` and `ways.py`: which tries are made, what is kept, and the tables of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcgraph import dsl, pruning
from benchmarks.placement import gains, rows, ways
from benchmarks.placement.gains import Try


def tried(way: str, seed: int = 0, accuracy: float = 0.5, kept: str = "") -> Try:
    return Try(way, seed, "4>4", accuracy, kept, 2.0, 3.0)


def test_a_way_waits_for_the_one_whose_cost_it_may_have() -> None:
    every = list(gains.missing([], 2))
    assert ("random, as paper", 0, 0.0) not in every
    assert [seed for _, seed, _ in every] == [0] * 6 + [1] * 6
    done = [tried("paper"), tried("gains 4", 1)]
    later = list(gains.missing(done, 2))
    assert ("random, as paper", 0, 5.0) in later
    assert ("random, as gains", 1, 5.0) in later
    assert not {("paper", 0), ("random, as gains", 0)} & {(way, seed) for way, seed, _ in later}
    finished = [tried(way, seed) for seed in range(2) for way in gains.WAYS]
    assert list(gains.missing(finished, 2)) == []
    assert list(gains.missing([], 1, ("none", "random, as paper"))) == [("none", 0, 0.0)]


def test_tries_come_back(tmp_path: Path) -> None:
    kept = [tried("none", 3, 0.1 + 0.2), tried("gains 2", 0, 0.5, repr(2 / 3))]
    rows.write(tmp_path / "ways.csv", Try, kept)
    assert list(rows.read(tmp_path / "ways.csv", Try)) == kept
    assert rows.read(tmp_path / "nothing.csv", Try) == ()


def test_only_whole_seeds_are_compared() -> None:
    found = [tried(way, 0, 0.5, "0.25" if way == "gains 2" else "") for way in gains.WAYS]
    found += [tried(way, 1, 0.7, "0.75" if way == "gains 2" else "") for way in gains.WAYS]
    found.append(tried("none", 2, 0.0))
    number, rows = gains.rows_of(found)
    assert number == 2
    assert rows[0] == ("none", "0.600", "0.141", "0.500", "", "2", "5")
    assert next(row for row in rows if row[0] == "gains 2")[4] == "0.500"
    assert gains.rows_of([tried("none", 0), tried("all", 1)]) == (0, [])
    assert gains.rows_of([]) == (0, [])


def test_each_way_is_compared_seed_by_seed() -> None:
    found = [tried("gains 4", seed, 0.8 + seed / 100) for seed in range(3)]
    found += [tried("none", seed, accuracy) for seed, accuracy in enumerate((0.7, 0.69, 0.74))]
    found += [tried("all", seed, 0.8 + seed / 100) for seed in range(3)]
    found.append(tried("paper", 0, 0.1))
    made = ways.table(found, 3)
    assert made.startswith("3 seeds:\n\n| way | accuracy |")
    none, every, gains_4 = made.splitlines()[4:]
    # The differences are 0.10, 0.12 and 0.08.
    assert none.endswith("| 2 | 5 | +0.100 (p = 0.013) |")
    assert every.endswith("| +0.000 (equal) |")
    assert gains_4.endswith("| 5 |  |")


def test_the_page_says_what_was_measured() -> None:
    page = ways.PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- ways ") == len(ways.KEPT)
    assert ways.rewritten(page) == page
    changed = page.replace("| gains 4 | 0", "| gains 4 | 9")
    assert changed != page
    assert ways.rewritten(changed) == page


@pytest.mark.slow
def test_tries_of_a_short_training() -> None:
    base = dsl.load(gains.SPEC).with_backward(())
    short = {"train": base.train.model_copy(update={"epochs": 8}), "data": base.data.model_copy(update={"batch": 400})}
    text = dsl.format_spec(base.model_copy(update=short)).replace("tiny(width=16", "tiny(width=3")
    assert "width=3" in text
    found = gains.attempt(text, "gains 4", 0, 0.0)
    assert len(found.backward.split()) == 4
    assert 0 < float(found.kept) < 1
    assert found.search > 0
    assert found.training > 0
    assert len(gains.attempt(text, "all", 0, 0.0).backward.split()) == len(pruning.every(base))
    assert len(gains.attempt(text, "random, as gains", 0, 0.0).backward.split()) <= 2
