"""The last stage of a search: the best networks trained as their file says, beside the one without connections."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import bcgraph
from bcgraph import artifacts, exported, training, weights
from bcgraph.compiler.export import provenance
from bcgraph.compiler.export.provenance import Accuracy
from bcgraph.errors import RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search import driver, history
from bcgraph.search.evaluators import Standard
from bcgraph.search.events import Event, Progress
from bcgraph.search.finish.entrants import entrants, jobs
from bcgraph.search.records import conclusions, trained
from bcgraph.search.records.evaluations import Evaluation, Record
from bcgraph.search.records.trained import Entrant, Job
from bcgraph.search.space.candidate import Candidate
from bcgraph.viz import report

TEXT = """
bcg 1
network five {{ input = image(1, 8, 8); steps = 2; backbone = tiny(width=3, classes=10) }}
data = digits(batch=100)
search {{
  {space}
  init {{ pool = 0; keep = 4 }}
  evolve {{ score = n; iterations = 0 }}
  {finish}
}}
train {{ epochs = 2 }}
"""
FINISH = "finish { top = 2; seeds = 2; beside = [front, random] }"


def spec(finish: str = FINISH, space: str = "") -> NetworkSpec:
    return bcgraph.parse(TEXT.format(finish=finish, space=space))


class Fake:
    """Evaluators without data: the score of a network is its number of connections, its accuracy a table's."""

    def __init__(self, accuracy: dict[str, Sequence[float]]) -> None:
        self.accuracy = accuracy
        self.trained: list[str] = []

    def init(self) -> Any:
        raise AssertionError("nothing is scored")

    def evolve(self, progress: Progress) -> Any:
        def measured(specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
            yield from (Evaluation(n=float(sum(10 * c.source + c.target for c in s.backward))) for s in specs)

        return measured

    def gains(self, progress: Progress) -> Any:
        raise AssertionError("nothing is pruned")

    def finish(self, progress: Progress) -> Any:
        def run(asked: Sequence[Job]) -> Iterator[float]:
            for job in asked:
                self.trained.append(job.folder)
                yield self.accuracy.get(job.entrant.name, [0.5, 0.5])[job.number]

        return run


def evaluated(network: NetworkSpec, *architectures: Any) -> list[Record]:
    """Records of step two, each better than the next."""
    return [
        Record.of(Candidate.at(network, a, "random"), "evolve", 0, k, Evaluation(n=-float(k)), 0.0)
        for k, a in enumerate(architectures)
    ]


# --- Who takes part -----------------------------------------------------------------------------------------


def test_the_best_none_and_the_rivals_take_part() -> None:
    network = spec()
    found = entrants(network, 0, evaluated(network, (), ((2, 1), (3, 3)), ((1, 1),), ((4, 4),)))
    assert [e.name for e in found] == ["found-1", "found-2", "none", "front", "random-1", "random-2", "random-3"]
    assert [e.architecture for e in found[:4]] == [((2, 1), (3, 3)), ((1, 1),), (), ((3, 0), (4, 0))]
    assert len({e.architecture for e in found}) == 7, "no network takes part twice"
    assert all(len(e.architecture) in (1, 2) for e in found[4:])
    assert [sorted((c.source, c.target) for c in e.spec.backward) for e in found] == [
        sorted(e.architecture) for e in found
    ]
    assert entrants(network, 0, evaluated(network, (), ((2, 1), (3, 3)), ((1, 1),))) == found
    assert entrants(network, 1, evaluated(network, (), ((2, 1), (3, 3)), ((1, 1),)))[4:] != found[4:]


def test_front_rivals_keep_to_the_space_and_are_left_out_where_they_were_found() -> None:
    network = spec()
    names = [e.name for e in entrants(network, 0, evaluated(network, ((3, 0), (4, 0))))]
    assert names == ["found-1", "none", "random-1", "random-2", "random-3"]
    described = spec(
        "finish { beside = [front] }", "space { backward any -> @1 { delay = [1, 2] }; fixed @4 -> @4; at_most = 1 }"
    )
    front = entrants(described, 0, [])[-1]
    assert front.name == "front"
    assert [(c.source, c.target, c.delay) for c in front.spec.in_order] == [(4, 1, 1), (4, 4, 1)]
    forward = spec("finish { beside = [front, random] }", "space { forward any -> later { delay = 1 }; at_most = 1 }")
    assert [e.name for e in entrants(forward, 0, [])] == ["none", "random-1", "random-2", "random-3"]


def test_all_networks_train_with_the_same_seeds() -> None:
    network = spec()
    asked = jobs(network, 3, entrants(network, 3, evaluated(network, ((2, 1),))))
    assert len(asked) == 2 * 6
    assert len({job.seed for job in asked}) == 2
    assert [job.number for job in asked] == [0] * 6 + [1] * 6
    assert len({job.folder for job in asked}) == 12


# --- Who wins -----------------------------------------------------------------------------------------------


def run(tmp_path: Path, fake: Fake, network: NetworkSpec | None = None) -> Any:
    return driver.run(network or spec(), tmp_path, evaluators=fake)


def test_the_highest_mean_is_chosen_and_rivals_never_are(tmp_path: Path) -> None:
    fake = Fake({"found-1": [0.6, 0.9], "found-2": [0.8, 0.9], "none": [0.7, 0.7], "front": [1.0, 1.0]})
    result = run(tmp_path, fake)
    finish = result.finish
    assert finish.best.name == "found-2"
    assert finish.best.mean == pytest.approx(0.85)
    assert finish.best.deviation == pytest.approx(statistics.stdev([0.8, 0.9]))
    assert tuple(sorted((c.source, c.target) for c in result.best.backward)) == finish.best.architecture
    assert result.chosen.architecture == finish.best.architecture
    text = (tmp_path / "best.bcg").read_text()
    assert "the best of 2 trained networks and the one without connections" in text
    assert "0.8500 +- 0.0707 over 2 seeds; without connections 0.7000 +- 0.0000 over 2 seeds" in text
    assert bcgraph.load(tmp_path / "best.bcg") == result.best
    found = history(tmp_path)
    assert found["finish"]["best"] == "found-2"
    assert found["chosen"]["backward"] == [list(pair) for pair in finish.best.architecture]
    assert [n["name"] for n in found["finish"]["networks"]][:3] == ["found-1", "found-2", "none"]


def test_none_is_chosen_where_no_connection_helps(tmp_path: Path) -> None:
    result = run(tmp_path, Fake({"none": [0.5, 0.5], "found-1": [0.5, 0.5]}))
    assert result.best.backward == ()
    assert "no connections, as the best 2 networks found train to no higher" in (tmp_path / "best.bcg").read_text()
    assert history(tmp_path)["chosen"]["backward"] == []


def test_a_stopped_stage_trains_what_is_left(tmp_path: Path) -> None:
    class Stopping(Fake):
        def finish(self, progress: Progress) -> Any:
            train = super().finish(progress)

            def run(asked: Sequence[Job]) -> Iterator[float]:
                for place, accuracy in enumerate(train(asked)):
                    if place == 3:
                        raise KeyboardInterrupt
                    yield accuracy

            return run

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Stopping({}))
    partial = history(tmp_path / "stopped")
    assert not partial["finished"]
    assert partial["finish"]["best"] is None
    again = Fake({})
    run(tmp_path / "stopped", again)
    run(tmp_path / "whole", whole := Fake({}))
    assert again.trained == whole.trained[3:]
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
    third = Fake({})
    run(tmp_path / "stopped", third)
    assert third.trained == [], "a finished search trains nothing"


def test_results_of_other_networks_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    run(tmp_path, Fake({}))
    path = tmp_path / trained.NAME
    data = json.loads(path.read_text())
    data["networks"][0]["runs"][0]["accuracy"] = 0.99
    path.write_text(json.dumps(data))
    with pytest.raises(RunError, match=r"finish\.json` cannot be read"):
        run(tmp_path, Fake({}))
    network = spec()
    made = trained.Results(path, 2, (Entrant("none", network, ()),), {("none", 0): 0.5})
    made.add(Job(made.networks[0], 1, 7), 0.25)
    with pytest.raises(RunError, match="is of other networks"):
        run(tmp_path, Fake({}))


def test_without_the_stage_nothing_changes(tmp_path: Path) -> None:
    result = run(tmp_path, fake := Fake({}), spec(""))
    assert result.finish is None
    assert fake.trained == []
    assert not (tmp_path / trained.NAME).exists()
    assert "finish" not in json.loads((tmp_path / "run.json").read_text())["spec"]["search"]
    assert "finish" not in history(tmp_path)
    assert "finish" not in bcgraph.format(spec(""))


# --- Trained for real ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[Event]]:
    """A search with a last stage on few samples."""
    network = spec("finish { top = 1; seeds = 2 }")
    out = tmp_path_factory.mktemp("finish") / "run"
    events: list[Event] = []
    standard = Standard(network, 0, out)
    train, validation = standard.splits
    standard.__dict__["splits"] = (train.subset(range(200)), validation.subset(range(50)))
    hooks = (artifacts.write, lambda result: report.write(result.path))
    result = driver.run(network, out, evaluators=standard, hooks=hooks, progress=events.append)
    return out, result, events


def test_runs_are_those_of_training_on_the_search_part(real: tuple[Path, Any, list[Event]], tmp_path: Path) -> None:
    out, result, events = real
    assert [e.done for e in events if e.stage == "finish"] == list(range(1, 9))
    standard = Standard(result.spec, 0, out)
    train, validation = standard.splits
    (found, none) = result.finish.networks
    (job, *_) = jobs(result.spec, 0, entrants(result.spec, 0, result.records))
    splits = bcgraph.data.Splits(
        train.subset(range(200)), validation.subset(range(50)), train.classes, (0.0,), (1.0,), "validation"
    )
    own = training.train(job.entrant.spec, out=tmp_path, seed=job.seed, splits=splits)
    assert own.accuracy == found.runs[0].accuracy
    assert (tmp_path / "last.safetensors").read_bytes() == (out / job.folder / "last.safetensors").read_bytes()
    header = (tmp_path / "log.csv").read_text().splitlines()[0]
    assert header == "epoch,lr,loss,train_accuracy,validation_accuracy,seconds"
    assert len(none.runs) == 2


def test_the_weights_are_those_of_the_best_training_run(real: tuple[Path, Any, list[Event]]) -> None:
    out, result, _ = real
    best = result.finish.best
    place = max(best.runs, key=lambda run: (run.accuracy, -run.seed)).seed
    kept = weights.load(out / "best.safetensors", spec=result.best)
    there = weights.load(out / f"finish/{best.name}/seed-{place}/last.safetensors", spec=result.best)
    assert kept.keys() == there.keys()
    assert all(torch.equal(kept[name], there[name]) for name in kept)
    assert weights.unpack(out / "best.safetensors")[1]["metadata"]["origin"] == "training"
    accuracy = Accuracy(max(run.accuracy for run in best.runs), result.best.data.name, "validation", chosen=True)
    for known in (
        provenance.of_weights(out / "best.safetensors"),
        provenance.of_metadata(exported.metadata(out / "best.onnx")),
    ):
        assert (known.accuracy, known.seed, known.weights) == (accuracy, result.seed, "")


def test_the_report_has_the_stage_and_sentences_that_it_bears_out(real: tuple[Path, Any, list[Event]]) -> None:
    out, result, _ = real
    page = (out / "report.html").read_text()
    assert 'id="finish"' in page
    assert "inherited" not in page
    names = [n.name for n in result.finish.networks]
    assert names == ["found-1", "none"]
    (sentence,) = conclusions.beside_none(history(out))
    assert sentence.startswith("found-1: ")
    assert sentence in page


def evaluation(*pairs: tuple[int, int]) -> dict[str, Any]:
    return {"backward": [list(pair) for pair in pairs]}


def test_what_is_said_of_the_front_follows_from_the_numbers() -> None:
    front, back = evaluation((4, 0), (3, 1)), evaluation((4, 4), (4, 3))
    favored = conclusions.positions([*[front] * 5, *[dict(back) for _ in range(9)]], [front] * 5, 6)
    assert favored is not None
    assert favored.startswith("10 of 10 connections of the best (100%) end in ports 0 to 1")
    assert "0 of 18 (0%) of the others: the front is favored" in favored
    avoided = conclusions.positions([*[back] * 5, *[dict(front) for _ in range(9)]], [back] * 5, 6)
    assert avoided is not None
    assert "the front is avoided" in avoided
    unclear = conclusions.positions([front, dict(back), dict(front)], [front], 6)
    assert unclear is not None
    assert "no preference beyond chance" in unclear
    assert conclusions.positions([front, evaluation()], [front], 6) is None


def test_scores_are_compared_beyond_the_rule_of_distance() -> None:
    from random import Random

    rng = Random(0)
    architectures = [[(j, i)] for j in range(5) for i in range(j + 1)]
    evaluations: list[dict[str, Any]] = []
    hidden = {str(a): rng.random() for a in architectures}
    for stage in ("init", "evolve"):
        for a in architectures:
            ((j, i),) = a
            value = {"n": 10 * hidden[str(a)] + (j - i), "accuracy": None, "e": float(i - j)}
            if stage == "evolve":
                value = {"n": None, "e": None, "accuracy": hidden[str(a)] - 0.3 * (j - i)}
            evaluations.append({"stage": stage, "backward": [[j, i]], "reasons": {}, **value})
    settings = {"evolve": {"score": "oneshot"}, "init": {"scores": ["n", "e"]}}
    told = conclusions.scores({"settings": settings, "evaluations": evaluations})
    # The E-score is the rule itself, and has nothing beyond it.
    (sentence,) = told
    assert sentence.startswith(
        "N-score beside validation accuracy of 15 architectures that have both: partial Spearman +"
    )
    assert float(sentence.split("Spearman ")[1].split(",")[0]) > 0.6
    assert conclusions.scores({"settings": settings, "evaluations": evaluations[10:20]}) == []
