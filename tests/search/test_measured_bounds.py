"""Bounds on what is measured (`accuracy >= 0.9`, `energy <= 1e-6`): what breaks one is recorded and never wins."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import bcgraph
from bcgraph import schema, search
from bcgraph.errors import SearchError, SpecError
from bcgraph.schema import NetworkSpec
from bcgraph.schema.search import Bound
from bcgraph.search.evaluators import Standard
from bcgraph.search.finish.entrants import entrants
from bcgraph.search.metrics import latency
from bcgraph.search.records.evaluations import Evaluation, Record
from bcgraph.search.records.objectives import Objective, Requirement, front, measured, ranking, trains_supernet
from bcgraph.search.strategies import selection
from bcgraph.search.strategies.evolution import evolve
from bcgraph.viz import report
from tests.cli.conftest import TINY
from tests.search import landscape

TWO = (Objective("accuracy"), Objective("energy", maximize=False))
WITHIN = (Requirement("accuracy", 0.3), Requirement("energy", 2.0))


def judge(network: NetworkSpec) -> Evaluation:
    """More connections are better and dearer."""
    ends = sum(c.source + 2 * c.target + c.delay for c in network.connections)
    energy = float(len(network.connections) + ends % 3)
    return Evaluation.of({"accuracy": ends / 50, "energy": energy, "n": float(ends % 7), "e": 1.0})


def spec(*bounds: Bound, strategy: str = "evolutionary", **more: Any) -> NetworkSpec:
    evolution = schema.EvolveSpec(strategy=strategy, iterations=3, top=4, population=8, offspring=3, mutation=0.7)
    return landscape.spec(6, **({"evolve": evolution, "subject_to": bounds} | more))


def record(index: int, accuracy: float | None, energy: float | None) -> Record:
    values = {"accuracy": accuracy, "energy": energy}
    return Record("evolve", 0, index, ((index, 0),), Evaluation.of(values), "random")


def test_what_breaks_a_bound_ranks_below_all_that_keeps_it_by_how_much() -> None:
    kept, better = record(0, 0.3, 2.0), record(1, 0.4, 1.0)
    weak, weaker, dear = record(2, 0.27, 1.0), record(3, 0.03, 1.0), record(4, 0.9, 2.5)
    unmeasured, dead = record(5, 0.9, None), Record("evolve", 0, 6, (), Evaluation.failed(("accuracy",), "x"), "random")
    records = [dead, unmeasured, dear, weaker, weak, kept, better]
    one = (Objective("accuracy"),)
    assert ranking(records, one, WITHIN) == [better, kept, weak, dear, weaker, unmeasured, dead]
    assert ranking(records, one)[:3] == [unmeasured, dear, better]
    assert front(records, TWO, WITHIN) == [better]
    assert record(7, math.nan, 1.0).evaluation.value("accuracy") == -math.inf
    assert WITHIN[0].excess(record(7, math.nan, 1.0).evaluation) == math.inf
    assert [str(each) for each in WITHIN] == ["accuracy >= 0.3", "energy <= 2"]


@pytest.mark.parametrize("strategy", ["evolutionary", "random", "tpe", "nsga2", "nsga3"])
def test_every_strategy_ends_within_the_bounds(strategy: str, tmp_path: Path) -> None:
    network = spec(Bound("energy", constant=2.0), strategy=strategy)
    result = search.run(network, tmp_path, evaluators=landscape.Fake(judge=judge))
    evolved = [r for r in result.records if r.stage == "evolve"]
    energies = [dict(r.evaluation.scores)["energy"] for r in evolved]
    assert any(e > 2.0 for e in energies), "what breaks a bound is recorded"
    kept = [r for r, e in zip(evolved, energies, strict=True) if e <= 2.0]
    assert result.chosen == max(kept, key=lambda r: r.evaluation.accuracy or 0.0)
    found = search.history(tmp_path)
    assert found["chosen"] == result.chosen.as_data()
    assert [e.get("breaks", []) for e in found["evaluations"] if e["stage"] == "evolve"] == [
        [] if e <= 2.0 else ["energy <= 2"] for e in energies
    ]
    assert "breaks energy &lt;= 2" in report.page(found, network)
    # A resumed run ranks as an uninterrupted one.
    first = selection.unscored(network, 3)
    whole = list(evolve(network, landscape.Fake(judge=judge), seed=3, initial=first))
    assert list(evolve(network, landscape.Fake(judge=judge), seed=3, initial=first, history=whole[:9])) == whole[9:]


def test_bounds_on_scores_decide_in_step_one(tmp_path: Path) -> None:
    network = spec(Bound("n", constant=4.0), init=schema.InitSpec(pool=30, keep=4))
    result = search.run(network, tmp_path, evaluators=landscape.Fake(judge=judge))
    chosen = {r.architecture for r in result.records if r.stage == "evolve" and r.iteration == 0}
    scored = [r for r in result.records if r.stage == "init"]
    assert any((r.evaluation.n or 0) < 4 for r in scored)
    assert all((r.evaluation.n or 0) >= 4 for r in scored if r.architecture in chosen)
    assert all("breaks" not in e for e in search.history(tmp_path)["evaluations"] if e["stage"] == "init")


def test_a_bound_that_no_candidate_keeps_is_an_error_that_says_what_the_nearest_has(tmp_path: Path) -> None:
    network = spec(Bound("accuracy", constant=0.99), maximize=("accuracy",), minimize=("energy",))
    with pytest.raises(
        SearchError, match=r"the nearest has accuracy 0\.\d+, which breaks `accuracy >= 0.99`"
    ) as caught:
        search.run(network, tmp_path, evaluators=landscape.Fake(judge=judge))
    assert caught.value.code == "E067"
    found = search.history(tmp_path)
    assert found["front"] == []
    assert not found["finished"]
    assert all(e["breaks"] for e in found["evaluations"] if e["stage"] == "evolve")


def test_the_last_stage_trains_what_keeps_the_bounds() -> None:
    network = spec(Bound("energy", constant=2.0), finish=schema.FinishSpec(top=9))
    found = [r for r in evolve(network, landscape.Fake(judge=judge), seed=0, initial=[()]) if isinstance(r, Record)]
    trained = [each.architecture for each in entrants(network, 0, found) if each.name.startswith("found")]
    kept = {r.architecture for r in found if dict(r.evaluation.scores)["energy"] <= 2.0}
    assert trained
    assert set(trained) <= kept


def test_what_is_bounded_is_measured(tmp_path: Path) -> None:
    by_score = schema.EvolveSpec(score="n")
    network = spec(Bound("spikes", constant=9.0), Bound("state", 1.0), Bound("e", constant=-3.0), evolve=by_score)
    assert measured(network.search) == ("n", "spikes", "e")
    assert trains_supernet(network.search)
    assert not trains_supernet(spec(Bound("state", 1.0), evolve=by_score).search)


def test_a_text_means_what_it_says() -> None:
    text = TINY + "search { subject_to { accuracy >= 0.5; n >= -2.5; spikes <= 300; state <= 2 * baseline } }\n"
    network = bcgraph.parse(text)
    assert [str(b) for b in network.search.subject_to] == [
        "accuracy >= 0.5",
        "n >= -2.5",
        "spikes <= 300",
        "state <= 2 * baseline",
    ]
    assert bcgraph.parse(bcgraph.format(network)) == network
    with pytest.raises(SpecError, match=r"cannot keep `accuracy >= 0.5`"):
        bcgraph.parse(text.replace("search {", "search { evolve { strategy = gains; stages = 1 };"))


def test_latency_is_tried_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = "space { backward any -> any { through = [project(), project(kernel=3)] } }"
    network = bcgraph.parse(TINY + f"search {{ {space}; minimize = [latency] }}")
    latency.check(network)
    kinds = [{str(c.through) for c in each.connections} for each in latency._kinds(network)]
    assert kinds == [set(), {"None"}, {"project(kernel=3)"}]

    def fails(self: Any, spec: NetworkSpec, calls: int = 0) -> float:
        raise bcgraph.errors.CompileError("E072", "the layer cannot be written")

    monkeypatch.setattr(latency.Latencies, "milliseconds", fails)
    monkeypatch.setattr(Standard, "splits", None)
    with pytest.raises(SearchError, match=r"does not have: the layer cannot be written") as caught:
        search.run(network, tmp_path)
    assert caught.value.code == "E067"
    assert not list(tmp_path.iterdir()), "nothing was begun"
