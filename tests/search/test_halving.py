"""Successive halving: which candidates train on and for how long, and a search by it that is stopped and resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bcgraph
from bcgraph import dsl, weights
from bcgraph.artifacts import write
from bcgraph.errors import RunError, SpecError
from bcgraph.run_files import BEST
from bcgraph.schema import NetworkSpec
from bcgraph.search.finish.training import TrainedAccuracy, Trainer
from bcgraph.search.records import objectives
from bcgraph.search.records.evaluations import Evaluation, Record
from bcgraph.search.records.history import history
from bcgraph.search.space.search_space import architecture_of
from bcgraph.search.strategies.standard.halving import halve, rungs
from tests.search import landscape

TEXT = """bcg 1
network five {{ input = image(1, 8, 8); steps = 2; backbone = tiny(width=4) }}
data = digits(batch=100)
search {{
  init   {{ pool = 12; keep = {keep}; scores = [locality] }}
  evolve {{ strategy = halving; {more} }}
}}
train {{ epochs = {epochs} }}
"""


def spec(keep: int = 9, epochs: int = 9, more: str = "") -> NetworkSpec:
    return dsl.parse(TEXT.format(keep=keep, epochs=epochs, more=more))


def test_rungs() -> None:
    assert rungs(spec(), 9) == [(9, 1), (3, 3), (1, 9)]
    assert rungs(spec(epochs=12), 10) == [(10, 1), (3, 4), (1, 12)]
    assert rungs(spec(more="eta = 2"), 5) == [(5, 2), (2, 4), (1, 9)]
    assert rungs(spec(more="eta = 5; iterations = 1"), 100) == [(100, 2), (20, 9)]
    assert rungs(spec(more="iterations = 0"), 7) == [(7, 9)]
    assert rungs(spec(epochs=2), 27) == [(27, 1), (9, 1), (3, 1), (1, 2)]


def test_the_best_train_on_and_each_has_one_record() -> None:
    """Accuracies that turn round with the epochs, so that only what was trained longest decides."""
    network = spec()
    asked: list[tuple[int, Any]] = []

    def evaluate(specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        for each in specs:
            asked.append((each.train.epochs, architecture_of(each)))
            sign = -1 if each.train.epochs == 9 else 1
            yield Evaluation(accuracy=0.5 + sign * 0.1 * landscape.value(each) / 100 - each.train.epochs / 100)

    initial = [((port, target),) for target in range(3) for port in range(2, 5)]
    found = list(halve(network, evaluate, seed=0, initial=initial))
    assert [epochs for epochs, _ in asked] == [1] * 9 + [3] * 3 + [9]
    assert [(r.iteration, r.index) for r in found] == [*((0, k) for k in range(6)), (1, 0), (1, 1), (2, 0)]
    assert {r.architecture for r in found} == set(initial)
    by_value = sorted(initial, key=lambda a: -landscape.value(network.with_backward(a)))
    assert found[-1].architecture == by_value[0] == objectives.best_first(network, found)[0].architecture
    assert max(found, key=lambda r: r.evaluation.accuracy or 0) != found[-1]
    assert list(halve(network, evaluate, seed=0, initial=initial, history=found[:7])) == found[7:]
    changed = [*found[:3], replace(found[3], evaluation=Evaluation(accuracy=0.0)), *found[4:]]
    for history_of_another in (changed, [*found, found[-1]]):
        with pytest.raises(RunError) as caught:
            list(halve(network, evaluate, seed=0, initial=initial, history=history_of_another))
        assert caught.value.code == "E085"


class StoppedError(Exception):
    pass


def test_a_search_that_is_stopped_in_a_training_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = spec(keep=4, epochs=2, more="eta = 2")
    whole = bcgraph.search.run(network, tmp_path / "whole", seed=3)
    assert [(r.iteration, r.index) for r in whole.records if r.stage == "evolve"] == [(0, 0), (0, 1), (1, 0), (2, 0)]
    runs = sorted(p.parent.name for p in (tmp_path / "whole" / "candidates").glob("*/seed-0"))
    assert [name.split("-")[1] for name in runs] == ["1"] * 4 + ["2"] * 2, "4 short runs, the winner and none"
    assert not (tmp_path / "whole" / "weights.safetensors").exists(), "no supernet is trained"

    one = Trainer.one
    done: list[Any] = []

    def stopping(self: Trainer, *args: Any) -> float:
        if len(done) == 5:
            raise StoppedError
        done.append(args)
        return one(self, *args)

    monkeypatch.setattr(Trainer, "one", stopping)
    with pytest.raises(StoppedError):
        bcgraph.search.run(network, tmp_path / "cut", seed=3)
    monkeypatch.setattr(Trainer, "one", one)
    again = bcgraph.search.run(network, tmp_path / "cut", seed=3, hooks=[lambda result: kept.append(write(result))])
    assert again.records == whole.records
    assert again.best == whole.best
    found = history(tmp_path / "cut")
    assert found["chosen"] == whole.chosen.as_data()
    assert found["weights"] == "training"
    assert (tmp_path / "cut" / "best.bcg").read_text() == (tmp_path / "whole" / "best.bcg").read_text()
    state = weights.load(tmp_path / "cut" / BEST, spec=again.best)
    assert state.keys() == bcgraph.compile(again.best).state_dict().keys()


kept: list[Any] = []


def test_a_loss_that_is_not_finite_ranks_last(tmp_path: Path) -> None:
    def train(jobs: Any) -> Iterator[float]:
        yield from (float("-inf") if job.entrant.architecture else 0.4 for job in jobs)

    network = spec()
    found = list(TrainedAccuracy(train, 0)([network, network.with_backward([(1, 0)])]))
    assert [each.accuracy for each in found] == [0.4, float("-inf")]
    assert dict(found[1].reasons) == {"accuracy": "the loss is not finite"}
    folders = {job.folder for each in ([], [(1, 0)], [(1, 0, 2)]) for job in _jobs(network.with_backward(each))}
    assert len(folders) == 3


def _jobs(network: NetworkSpec) -> list[Any]:
    seen: list[Any] = []

    def train(jobs: Any) -> Iterator[float]:
        seen.extend(jobs)
        yield from (0.0 for _ in jobs)

    list(TrainedAccuracy(train, 0)([network]))
    return seen


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("score = n", "halving goes by the accuracy of training runs"),
        ("eta = 1", "`eta`"),
        ("strategy = random; eta = 2", ""),
    ],
)
def test_settings_that_do_not_fit(more: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec(more=more)
    assert says in str(caught.value)


def test_records_of_a_log_may_be_as_many_as_were_kept() -> None:
    from bcgraph.search.records.order import Order

    settings = spec(keep=40).search.model_dump(mode="json")
    order = Order(settings)
    for index in range(40):
        record = Record("evolve", 0, index, ((4, index % 5),) if index < 5 else ((index, 0),), Evaluation(), "selected")
        assert order.flaw(record) is None
    assert order.flaw(Record("evolve", 0, 40, ((50, 0),), Evaluation(), "selected")) is not None
