"""The record of the exhaustive training in `benchmarks/placement`; the trainings themselves take hours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bcgraph import dsl
from bcgraph.search import driver
from bcgraph.search.space.search_space import architecture_of
from benchmarks.placement import __main__ as placement
from benchmarks.placement import deep, records, replay, rows, science, tables, values, work
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


@pytest.mark.parametrize("name", ["tiny_japanese_vowels", "tiny_fashion_rows"])
def test_other_data_sets_and_single_connections_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dsl.load(placement.SPEC.with_name(f"{name}.bcg"))
    asked: list[work.Job] = []
    monkeypatch.setattr(placement, "extend", lambda *given, **_: asked.extend(given[3]))
    placement.run(spec, tmp_path / "t.csv", seeds=2, workers=1, at_most=1)
    assert len(asked) == 2 * 16
    assert {len(architecture) for _, architecture, _ in asked} == {0, 1}


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
    kept = placement.known(SPEC, records.TABLE)
    expected = {(records.written(architecture), seed) for _, architecture, seed in work.jobs(SPEC, 5)}
    assert {record.key for record in kept} == expected
    assert len(kept) == len(expected) == 605


def test_every_predictor_is_kept_for_every_architecture() -> None:
    kept = values.read()
    assert values.seeds_of(kept) == list(range(20))
    assert all(len(column) == 121 for column in kept.values())


def test_values_come_back(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    given = {("n", 0): [i / 7 for i in range(121)], ("supernet60r8", 1): [0.1 * i for i in range(121)]}
    values.write(path, given)
    assert values.read(path) == given
    assert values.seeds_of(given) == []
    path.write_text("seed,backward,x\n")
    with pytest.raises(ValueError, match="other predictors"):
        values.read(path)


@dataclass
class Kept:
    """The evaluators of a search that looks everything up."""

    lookup: replay.Lookup

    def init(self) -> Any:
        return self.lookup.scores

    def evolve(self, progress: Any) -> Any:
        return lambda specs: self.lookup.fitness("accuracy", specs)


def test_a_replay_is_the_search_itself(tmp_path: Path) -> None:
    settings = SPEC.search
    base = SPEC.with_backward(())
    lookup = replay.Lookup.of(values.read(), 3, tables.SHOT)
    result = driver.run(base, tmp_path, seed=3, evaluators=Kept(lookup))
    replayed = replay.search(settings.init, settings.evolve, lookup, 3)
    assert [r for r in result.records if r.stage == "evolve"] == replayed
    assert architecture_of(result.best) == replay.best(replayed, "accuracy")


def test_the_kept_values_are_those_that_the_sifted_file_searches_by() -> None:
    """What this search finds with seed 0 is in the best tenth."""
    sifted = dsl.load(placement.SPEC.with_stem(placement.SPEC.stem + "_sifted"))
    assert sifted.model_copy(update={"name": SPEC.name, "search": SPEC.search}) == SPEC
    assert SPEC.search.init.batch == sifted.search.init.batch == values.BATCH
    *_, (_, init, evolution, shot) = tables.sifted()
    assert (init, evolution) == (sifted.search.init, sifted.search.evolve)
    assert shot == str(values.Shot(sifted.search.supernet.epochs, sifted.search.supernet.recalibrate))
    lookup = replay.Lookup.of(values.read(), 0, shot)
    assert tables.ranks()[replay.best(replay.search(init, evolution, lookup, 0), "accuracy")] <= 12


def test_the_sifted_setting_was_not_chosen_on_what_confirms_it() -> None:
    """The number of epochs was, so the seeds that confirm are asked about the row before."""
    *_, (_, init, evolution, shot), (_, *last) = tables.sifted()
    assert (init, evolution) == tuple(last[:2])
    others = [seed for seed in tables.seeds() if seed >= tables.CHOSEN_ON]
    assert len(others) == 10
    found = [tables.ranks()[a] for seed in others for a in tables.returned(init, evolution, shot, seed)]
    assert sum(rank <= 12 for rank in found) > len(found) / 2
    assert max(found) <= 30


@pytest.mark.parametrize("name", ["placements", "ablation", "sifting"])
def test_the_page_says_what_was_measured(name: str) -> None:
    page = science.PAGE.read_text(encoding="utf-8")
    assert f"<!-- table {name} -->\n\n{tables.TABLES[name]()}" in page


def test_a_page_is_rewritten_where_its_tables_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(science, "TABLES", {"one": lambda: "| a |\n| --- |\n"})
    before = "x\n\n<!-- table one -->\n\n| old |\n| --- |\n| 1 |\n\ny\n"
    assert science.rewritten(before) == "x\n\n<!-- table one -->\n\n| a |\n| --- |\n\ny\n"
    with pytest.raises(KeyError):
        science.rewritten("<!-- table two -->\n\n")


def test_intervals_hold_the_correlation_that_they_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RESAMPLED", 100)
    low, high = tables.interval("e")
    mean = sum(tables.correlation("e", seed) for seed in tables.seeds()) / len(tables.seeds())
    assert 0 < low < mean < high < 1


def test_every_run_of_the_deep_network_is_run_once(tmp_path: Path) -> None:
    spec = dsl.load(deep.SPEC)
    jobs = list(deep.jobs(spec, 2))
    keys = [(name, gain, divided, seed) for name, _, gain, divided, seed in jobs]
    assert len(set(keys)) == len(keys)
    assert len(next(pairs for name, pairs, *_ in jobs if name == "all")) == 153
    assert not any(divided for name, _, _, divided, _ in jobs if name == "16>0")
    runs = [deep.Run(name, gain, divided, seed, 0.5, 0.75, 1.25, 2.0) for name, _, gain, divided, seed in jobs]
    rows.write(tmp_path / "deep.csv", deep.Run, runs)
    assert list(rows.read(tmp_path / "deep.csv", deep.Run)) == runs
    assert len(deep.summary(runs).splitlines()) > len(deep.GAINS)


def test_gains_are_divided_by_the_root_of_what_arrives() -> None:
    spec = deep.wired(dsl.load(deep.SPEC), ((4, 0), (3, 0), (2, 0), (1, 0), (4, 4)), 0.1, divided=True)
    assert spec.gains == ((1, 0, 0.05), (2, 0, 0.05), (3, 0, 0.05), (4, 0, 0.05), (4, 4, 0.1))
