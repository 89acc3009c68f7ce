"""Predictors: what they make of noisy and incomplete measures, the choices by them, and users' own."""

from __future__ import annotations

import math
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bcgraph
from bcgraph import dsl, plugins
from bcgraph.errors import BcgraphError, SpecError
from bcgraph.search.finish.entrants import entrants
from bcgraph.search.predictors.ranks import shares
from bcgraph.search.predictors.standard.additive import additive
from bcgraph.search.predictors.standard.fused import fused
from bcgraph.search.records import objectives
from bcgraph.search.records.evaluations import Evaluation, Record
from bcgraph.search.records.history import history
from bcgraph.search.scores.rank_correlation import spearman
from bcgraph.search.strategies import selection
from tests.search import landscape

PAIRS = [(j, i) for i in range(5) for j in range(i, 5)]
SPACE: list[Any] = [tuple(chosen) for k in range(3) for chosen in combinations(PAIRS, k)]


def test_shares_of_ranks_leave_out_what_is_missing() -> None:
    assert shares([3.0, None, 1.0, 3.0, -math.inf]) == [0.75, None, 0.375, 0.75, 0.125]
    assert shares([math.nan, 2.0]) == [0.25, 0.75]
    assert shares([None]) == [None]
    assert shares([]) == []


def test_ranks_are_fused() -> None:
    assert fused([(), ((0, 0),), ((1, 0),)], {"a": [1.0, 2.0, 3.0], "b": [5.0, None, 9.0]}) == pytest.approx(
        [1 / 6 + 1 / 4, 3 / 6 + 1 / 2, 5 / 6 + 3 / 4]
    )


def test_an_additive_landscape_is_found_under_noise_and_where_nothing_was_measured() -> None:
    rng = random.Random(0)
    worth = {pair: rng.gauss(0, 1) for pair in PAIRS}
    truth = [sum(worth[pair] for pair in each) for each in SPACE]
    noisy: list[float | None] = [value + rng.gauss(0, 2) for value in truth]
    for place in range(0, len(SPACE), 3):
        noisy[place] = None
    known = [k for k, value in enumerate(noisy) if value is not None]
    found = additive(SPACE, {"accuracy": noisy})
    smoothed = spearman([found[k] for k in known], [truth[k] for k in known])
    plain = spearman([noisy[k] or 0.0 for k in known], [truth[k] for k in known])
    assert plain < 0.5 < 0.65 < smoothed
    unseen = [k for k, value in enumerate(noisy) if value is None]
    assert spearman([found[k] for k in unseen], [truth[k] for k in unseen]) > 0.55


def test_the_additive_model_is_ridge_regression() -> None:
    """Against the closed form with an intercept that is not shrunk."""
    values = [math.sin(k) for k in range(len(SPACE))]
    x = np.array([[1.0, *(float(pair in each) for pair in PAIRS)] for each in SPACE])
    y = np.array(shares(values), dtype=float)
    penalty = np.diag([0.0, *[1.0] * len(PAIRS)])
    expected = x @ np.linalg.solve(x.T @ x + penalty, x.T @ y)
    assert additive(SPACE, {"m": values}) == pytest.approx(expected.tolist(), abs=1e-9)
    assert additive(SPACE, {}) == [0.0] * len(SPACE)
    assert additive([()], {"m": [1.0]}) == [0.5]


def record(stage: Any, index: int, architecture: Any, **measures: float) -> Record:
    return Record(stage, 0, index, architecture, Evaluation.of(measures), "pool")


def spec(**settings: str) -> bcgraph.NetworkSpec:
    text = """bcg 1
    network five {{ input = image(1, 8, 8); steps = 2; backbone = tiny(width=4) }}
    search {{
      init {{ pool = 30; keep = 6; {init} }}
      evolve {{ iterations = 2; top = 4; population = 8; offspring = 3; mutation = 0.7; {evolve} }}
      {finish}
    }}"""
    return dsl.parse(text.format(**({"init": "", "evolve": "", "finish": ""} | settings)))


def test_step_one_keeps_the_best_by_a_predictor() -> None:
    drawn = [record("init", k, each, n=float(k), e=math.cos(k)) for k, each in enumerate(SPACE)]
    kept = selection.select(drawn, ("n", "e"), 5, choose="fused")
    values = fused(SPACE, {"n": [float(k) for k in range(len(SPACE))], "e": [math.cos(k) for k in range(len(SPACE))]})
    assert [r.index for r in kept] == sorted(range(len(SPACE)), key=lambda k: -values[k])[:5]
    dead = record("init", 121, ((9, 9),), n=-math.inf, e=99.0)
    assert dead not in selection.select([dead, *drawn], ("n", "e"), len(SPACE), choose="fused")


def test_the_best_and_the_last_stage_go_by_a_predictor() -> None:
    """The supernet says one thing, and all that is known of the connections another."""
    network = spec(init="scores = [e]", evolve="choose = additive", finish="finish { top = 2; seeds = 1 }")
    pool = [record("init", k, each, e=float((3, 3) in each) - float((4, 0) in each)) for k, each in enumerate(SPACE)]
    lucky, sound, dead = ((4, 0),), ((3, 3),), ((3, 3), (4, 4))
    evolved = [
        record("evolve", 0, lucky, accuracy=0.9),
        record("evolve", 1, sound, accuracy=0.8),
        record("evolve", 2, dead, accuracy=-math.inf),
    ]
    ordered = objectives.best_first(network, [*pool, *evolved])
    assert [r.architecture for r in ordered] == [sound, lucky, dead]
    assert [e.architecture for e in entrants(network, 0, [*pool, *evolved])] == [sound, lucky, ()]
    settings = network.search.model_dump(mode="json")
    assert objectives.chosen([*pool, *evolved], settings) == evolved[1]
    settings["evolve"]["choose"] = "best"
    assert objectives.chosen([*pool, *evolved], settings) == evolved[0]
    settings["evolve"]["choose"] = "somebody_s"
    assert objectives.chosen([*pool, *evolved], settings) == evolved[0]


@pytest.fixture
def mine() -> Any:
    def fewest(architectures: Any, measures: Any) -> list[float]:
        """Few connections first."""
        assert set(measures) <= {"n", "e", "accuracy"}
        assert all(len(values) == len(architectures) for values in measures.values())
        return [-float(len(each)) for each in architectures]

    bcgraph.register.predictor("fewest", fewest)
    yield
    bcgraph.register.forget("predictor", "fewest")


def test_a_search_by_a_registered_predictor_resumes(mine: Any, tmp_path: Path) -> None:
    network = spec(init="choose = fewest", evolve="choose = fewest")
    assert dsl.parse(dsl.format_spec(network)) == network
    whole = bcgraph.search.run(network, tmp_path / "whole", evaluators=landscape.Fake())
    assert len(whole.chosen.architecture) == min(len(r.architecture) for r in whole.records if r.stage == "evolve")
    with pytest.raises(KeyboardInterrupt):
        bcgraph.search.run(network, tmp_path / "cut", evaluators=landscape.Fake(limit=33))
    again = bcgraph.search.run(network, tmp_path / "cut", evaluators=landscape.Fake())
    assert again.records == whole.records
    assert again.chosen == whole.chosen
    assert history(tmp_path / "cut")["chosen"] == whole.chosen.as_data()
    assert [e.name for e in plugins.REGISTRY.entries() if e.kind == "predictor"] == ["fewest"]


def test_old_settings_say_nothing_of_predictors() -> None:
    dumped = spec().search.model_dump(mode="json")
    assert "choose" not in dumped["init"]
    assert "choose" not in dumped["evolve"]
    assert "choose" not in dsl.format_spec(spec())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (lambda a, m: [0.0], "1 values for"),
        (lambda a, m: ["x"] * len(a), "could not convert"),
        (lambda a, m: 1 / 0, "division"),
    ],
)
def test_a_predictor_that_fails_is_named(values: Any, says: str, tmp_path: Path) -> None:
    bcgraph.register.predictor("broken", values)
    try:
        with pytest.raises(BcgraphError, match=says) as caught:
            bcgraph.search.run(spec(init="choose = broken"), tmp_path, evaluators=landscape.Fake())
        assert caught.value.code == "E095"
        assert "the predictor `broken`" in str(caught.value)
    finally:
        bcgraph.register.forget("predictor", "broken")


def test_names_that_do_not_fit() -> None:
    with pytest.raises(SpecError, match="cannot be `best`"):
        spec(init="choose = best")
    with pytest.raises(SpecError, match="cannot be `turns`"):
        spec(evolve="choose = turns")
    for name in ("turns", "best", "additive"):
        with pytest.raises(BcgraphError, match="of bcgraph itself"):
            bcgraph.register.predictor(name, lambda a, m: [0.0] * len(a))
