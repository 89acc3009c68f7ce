"""Several supernets of one search: each with its own seed, resumed on its own, and their mean."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bcgraph
from bcgraph import keys
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, history, run
from bcgraph.search.distributed.tasks import PooledEvaluator
from bcgraph.search.evaluators import Standard
from bcgraph.search.events import Event
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.supernet import several
from bcgraph.search.supernet.checkpoint import STATE, WEIGHTS
from bcgraph.search.supernet.one_shot import OneShot

TEXT = """
bcg 1
network five {{ input = image(1, 8, 8); steps = 2; backbone = tiny(width=2, classes=10) }}
data = digits(batch=480)
search {{
  init {{ pool = 0; keep = 2 }}
  supernet {{ epochs = 2{more} }}
  evolve {{ iterations = 1; top = 2; population = 2; offspring = 1; {by} }}
  {objectives}
}}
"""


def spec(more: str = "; seeds = 2", by: str = "", objectives: str = "") -> NetworkSpec:
    return bcgraph.parse(TEXT.format(more=more, by=by, objectives=objectives))


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    epochs: list[tuple[int, int]] = []
    run(spec(), out, progress=lambda e: epochs.append((e.done, e.total)) if e.stage == "supernet" else None)
    assert epochs == [(1, 4), (2, 4), (3, 4), (4, 4)]
    return out


def test_the_mean_and_its_terms(whole: Path) -> None:
    for found in history(whole)["evaluations"]:
        terms = found["samples"]["accuracy"]
        assert len(terms) == 2
        assert found["accuracy"] == sum(terms) / 2
    first, second = ((whole / folder / WEIGHTS).read_bytes() for folder in ("", "supernets/2"))
    assert first != second


def test_the_first_is_that_of_a_search_with_one(whole: Path, tmp_path: Path) -> None:
    one = run(spec(more=""), tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert not (tmp_path / several.FOLDER).exists()
    assert all(not record.evaluation.samples for record in one.records)
    initial = {tuple(map(tuple, e["backward"])): e for e in history(whole)["evaluations"] if e["iteration"] == 0}
    for record in one.records[:2]:
        assert initial[record.architecture]["samples"]["accuracy"][0] == record.evaluation.accuracy


def test_each_resumes_on_its_own(whole: Path, tmp_path: Path) -> None:
    for stop in (1, 3):
        events: list[int] = []

        def stopping(event: Event, stop: int = stop, events: list[int] = events) -> None:
            if event.stage == "supernet":
                events.append(event.done)
                if event.done == stop:
                    raise StoppedError

        with pytest.raises(StoppedError):
            run(spec(), tmp_path, progress=stopping)
        assert events == list(range({1: 1, 3: 2}[stop], stop + 1)), "what was trained is not trained again"
    run(spec(), tmp_path)
    assert history(tmp_path) == history(whole)
    for folder in ("", "supernets/2"):
        for name in (STATE, WEIGHTS):
            assert (tmp_path / folder / name).read_bytes() == (whole / folder / name).read_bytes()


def test_what_candidates_fire_is_a_mean_too(tmp_path: Path) -> None:
    network = spec(objectives="maximize = [accuracy]; minimize = [spikes]").with_backward([])
    found = run(network, tmp_path, options=Options(threads=1)).records[0].evaluation
    terms = dict(found.samples)
    assert found.measured("spikes") == sum(terms["spikes"]) / 2
    assert len({*terms["spikes"]}) == 2
    assert found.accuracy == sum(terms["accuracy"]) / 2


def test_a_candidate_that_fails_once_has_failed() -> None:
    def gives(*found: Evaluation) -> object:
        def evaluate(specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
            return iter(found[: len(specs)])

        return evaluate

    well, failed = Evaluation(accuracy=0.5), Evaluation.failed(("accuracy",), "no room")
    mean = several.of([gives(well, well), gives(Evaluation(accuracy=0.25), failed)])  # type: ignore[list-item]
    first, second = mean([spec(), spec()])
    assert first == Evaluation(accuracy=0.375, samples=(("accuracy", (0.5, 0.25)),))
    assert second.accuracy == float("-inf")
    assert dict(second.reasons) == {"accuracy": "no room"}


class Here:
    """A pool whose tasks this process does."""

    workers = 3

    def __init__(self, workload: Any) -> None:
        self.work = pickle.loads(pickle.dumps(workload)).start()

    def run(self, source: Any) -> Iterator[Any]:
        while (task := source.draw()) is not None:
            yield self.work(task)


@pytest.mark.parametrize("recalibrate", [0, 1])
def test_workers_measure_on_each(whole: Path, recalibrate: int) -> None:
    network = spec()
    mean = Standard(network, 0, whole).evolve(lambda event: pytest.fail("trained again"))
    assert isinstance(mean, several.Mean)
    shots = [replace(part, recalibrate=recalibrate) for part in mean.parts if isinstance(part, OneShot)]
    mean = several.Mean(tuple(shots))
    specs = [network.with_backward(pairs) for pairs in ([], [(4, 0)], [(2, 1), (3, 3)])]
    assert list(PooledEvaluator(mean, network, Here)(specs)) == list(mean(specs))  # type: ignore[arg-type]


def test_seeds_and_text() -> None:
    assert several.seeds(7, 1) == (7,)
    assert several.seeds(7, 3) == (7, keys.derive(7, "supernet", "seed", 1), keys.derive(7, "supernet", "seed", 2))
    one, two = spec(more=""), spec()
    assert "seeds" not in bcgraph.format(one)
    assert "seeds = 2" in bcgraph.format(two)
    assert bcgraph.parse(bcgraph.format(two)) == two
    assert one.search.supernet.model_dump() == {"epochs": 2, "recalibrate": 0}
    assert bcgraph.parse(TEXT.format(more="; seeds = 1", by="", objectives="")) == one
