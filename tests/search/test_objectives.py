"""Objectives, their order and their front; bounds, which cost no evaluation; the networks beside a search."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcgraph import plugins, schema, search
from bcgraph.errors import SearchError
from bcgraph.plugins.values import Strategy
from bcgraph.schema import NetworkSpec
from bcgraph.schema.search import Bound, Rule, SpaceSpec
from bcgraph.search.records import beside
from bcgraph.search.records.evaluations import Evaluation, Note, Record
from bcgraph.search.records.objectives import Objective, front, ranking
from bcgraph.search.space.limits import Limits, costs
from bcgraph.search.space.search_space import of_search
from bcgraph.search.strategies import registered, selection
from bcgraph.search.strategies.evolution import evolve
from bcgraph.search.strategies.population import Population
from tests.search import landscape
from tests.search.conftest import chain

TWO = (Objective("accuracy"), Objective("energy", maximize=False))


def record(index: int, accuracy: float, energy: float) -> Record:
    values = {"accuracy": accuracy, "energy": energy}
    return Record("evolve", 0, index, ((index, 0),), Evaluation.of(values), "random")


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] >= b[0] and a[1] <= b[1] and a != b


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_order_peels_front_after_front(points: list[tuple[int, int]]) -> None:
    records = [record(k, float(a), float(e)) for k, (a, e) in enumerate(points)]
    expected: list[Record] = []
    left = list(records)
    while left:
        values = [(r.evaluation.accuracy, dict(r.evaluation.scores)["energy"]) for r in left]
        peeled = [r for r, v in zip(left, values, strict=True) if not any(dominates(o, v) for o in values)]
        expected += sorted(peeled, key=lambda r: -r.evaluation.accuracy)
        left = [r for r in left if r not in peeled]
    assert ranking(records, TWO) == expected
    first = front(records, TWO)
    assert first == expected[: len(first)]
    assert all(not dominates(points[o.index], points[r.index]) for r in first for o in records)


def test_what_failed_is_last_and_on_no_front() -> None:
    dead = Record("evolve", 0, 9, (), Evaluation.failed(("accuracy", "energy"), "dead"), "random")
    half = Record("evolve", 0, 8, ((1, 1),), Evaluation.of({"accuracy": 1.0}), "random")
    alive = record(0, 0.1, 5.0)
    assert ranking([dead, half, alive], TWO)[0] == alive
    assert front([dead, half, alive], TWO) == [alive]


def spec(strategy: str = "evolutionary", **more: Any) -> NetworkSpec:
    evolution = schema.EvolveSpec(strategy=strategy, iterations=4, top=4, population=8, offspring=3, mutation=0.7)
    return landscape.spec(6, **({"evolve": evolution, "maximize": ("accuracy",), "minimize": ("energy",)} | more))


def judge(network: NetworkSpec) -> Evaluation:
    """More connections are better and dearer."""
    ends = sum(c.source + 2 * c.target + c.delay for c in network.connections)
    return Evaluation.of({"accuracy": ends / 50, "energy": float(len(network.connections) + ends % 3)})


@pytest.mark.parametrize("strategy", ["evolutionary", "tpe", "nsga2", "nsga3"])
def test_several_objectives_are_searched_and_resumed_to_the_bit(strategy: str) -> None:
    network = spec(strategy)
    first = selection.unscored(network, 3)
    whole = list(evolve(network, landscape.Fake(judge=judge), seed=3, initial=first))
    assert len({r.architecture for r in whole}) == len(whole) == 6 + 4 * 8
    for stop in (5, 6, 17, len(whole) - 1):
        rest = list(evolve(network, landscape.Fake(judge=judge), seed=3, initial=first, history=whole[:stop]))
        assert rest == whole[stop:]


def test_parents_come_from_the_front() -> None:
    """With all of the pool evaluated, children descend from what no other one beats."""
    network = spec()
    found = list(evolve(network, landscape.Fake(judge=judge), seed=1, initial=selection.unscored(network, 1)))
    before = [r for r in found if r.iteration < 4]
    parents = ranking(before, TWO)[:4]
    assert {r.index for r in front(before, TWO)[:4]} <= {r.index for r in parents}


# --- Bounds -----------------------------------------------------------------------------------------------


def bounded(*bounds: Bound, **more: Any) -> NetworkSpec:
    return spec(maximize=(), minimize=(), subject_to=bounds, **more)


def test_a_candidate_that_breaks_a_bound_is_never_evaluated() -> None:
    network = bounded(Bound("parameters", 1.0, 40.0), init=schema.InitSpec(pool=20, keep=6))
    limits = Limits.of(network)
    most = costs(network)["parameters"] + 40
    fake = landscape.Fake()
    pool = selection.pool(network, 0, limits)
    assert pool
    counted = sum(limits.rejected.values())
    found = list(evolve(network, fake, seed=0, initial=pool[:6], limits=limits))
    records = [r for r in found if not isinstance(r, Note)]
    assert len(fake.asked) == len(records)
    within = {a for a in of_search(network) if costs(network.with_connections(a))["parameters"] <= most}
    assert within >= {*pool, *(r.architecture for r in records)}
    assert sum(limits.rejected.values()) > counted > 0
    (note,) = limits.notes("step two")
    broken = sum(limits.rejected.values())
    assert note == f"step two: {broken:,} draws broke `parameters <= 1 * baseline + 40` and were not evaluated"
    again = Limits.of(network)
    assert selection.pool(network, 0, again) == pool


def test_a_bound_by_which_little_is_left_ends_the_search_with_a_note() -> None:
    network = bounded(Bound("parameters", 1.0, 0.0))
    found = list(evolve(network, landscape.Fake(), seed=0, initial=[()]))
    assert [r.architecture for r in found if not isinstance(r, Note)] == [()]
    assert found[-1] == Note("no other architecture within the bounds is found after iteration 0")


@pytest.mark.parametrize("metric", ["parameters", "operations", "state"])
def test_a_bound_that_leaves_nothing_is_an_error_that_says_by_how_much(metric: Any) -> None:
    least = costs(bounded())[metric]
    with pytest.raises(SearchError) as caught:
        Limits.of(bounded(Bound(metric, 0.5, 0.0)))
    assert caught.value.code == "E067"
    assert f"`{metric} <= 0.5 * baseline`" in str(caught.value)
    assert f"{metric} is {least:,} or more, {least - least / 2:,.10g} too much" in str(caught.value)
    assert f"at least `{metric} <= 1 * baseline`" in str(caught.value)
    Limits.of(bounded(Bound(metric, 0.0, float(least))))


def test_the_baseline_has_the_connections_of_the_file_and_the_least_those_that_are_fixed() -> None:
    space = SpaceSpec(rules=(Rule("backward", "any", "any"), Rule("fixed", 2, 2)))
    network = bounded(Bound("state", 1.0, 0.0), space=space)
    with pytest.raises(SearchError):
        Limits.of(network)
    Limits.of(network.with_backward([(2, 2)]))


# --- Spaces of a file, through the whole search -----------------------------------------------------------


def own_space() -> NetworkSpec:
    rules = (
        Rule("backward", "any", "any", delay=(1, 2), through=(schema.Projection(), schema.Projection(kernel=3))),
        Rule("forward", "any", "later", delay=(1,), join=("add", "mul")),
        Rule("fixed", 3, 3, delay=(2,)),
        Rule("forbid", "any", 1),
    )
    return spec(space=SpaceSpec(rules=rules, at_most=2))


@pytest.mark.parametrize("strategy", ["evolutionary", "random", "tpe", "nsga2", "nsga3"])
def test_every_strategy_stays_in_the_space_of_a_file(strategy: str) -> None:
    network = own_space()
    evolution = schema.EvolveSpec(**(dict(network.search.evolve.__dict__) | {"strategy": strategy}))
    network = NetworkSpec(
        **(
            dict(network.__dict__)
            | {"search": schema.SearchSpec(**(dict(network.search.__dict__) | {"evolve": evolution}))}
        )
    )
    space = of_search(network)
    first = selection.unscored(network, 2)
    whole = list(evolve(network, landscape.Fake(judge=judge), seed=2, initial=first))
    assert all(space.holds(r.architecture) for r in whole)
    assert len({r.architecture for r in whole}) == len(whole)
    assert any(m.delay == 2 and m[:2] != (3, 3) for r in whole for m in r.architecture)
    data = [r.as_data() for r in whole]
    assert [Record.from_data(json.loads(json.dumps(d))) for d in data] == whole
    assert list(evolve(network, landscape.Fake(judge=judge), seed=2, initial=first, history=whole[:9])) == whole[9:]


def test_a_run_in_a_space_of_a_file_resumes_and_reports_its_front(tmp_path: Path) -> None:
    network = own_space().with_backward([(3, 3, 2), (4, 1, 1)])
    stopping = landscape.Fake(limit=45, judge=judge)
    with pytest.raises(KeyboardInterrupt):
        search.run(network, tmp_path / "a", evaluators=stopping)
    result = search.run(network, tmp_path / "a", evaluators=landscape.Fake(judge=judge))
    whole = search.run(network, tmp_path / "b", evaluators=landscape.Fake(judge=judge))
    assert result.records == whole.records
    histories = [search.history(tmp_path / name) for name in "ab"]
    assert histories[0] == histories[1]
    found = histories[0]
    # The second connection of the file is no member of the space.
    assert [entry["name"] for entry in found["beside"]] == ["none"]
    assert len(found["front"]) == len(list((tmp_path / "a/front").glob("*.bcg")))
    written = json.loads((tmp_path / "a/front/front.json").read_text())["front"]
    assert [{k: v for k, v in entry.items() if k != "file"} for entry in written] == found["front"]
    for entry in written:
        text = (tmp_path / "a/front" / entry["file"]).read_text()
        assert text.count("delay = 2") >= sum(c["delay"] == 2 for c in entry["members"])


def test_the_network_of_the_file_stands_beside_none(tmp_path: Path) -> None:
    network = landscape.spec().with_backward([(4, 0), (2, 2)])
    search.run(network, tmp_path, evaluators=landscape.Fake())
    found = search.history(tmp_path)["beside"]
    assert [entry["name"] for entry in found] == ["file", "none"]
    assert found[0]["accuracy"] == landscape.evaluation(network).accuracy
    assert found[0]["backward"] == [[2, 2], [4, 0]]
    assert found[1]["backward"] == []
    path = tmp_path / beside.NAME
    path.write_text(path.read_text().replace("0.", "1."))
    with pytest.warns(UserWarning, match="left out"):
        assert "beside" not in search.history(tmp_path)


def test_sets_of_objectives_rank_alike_in_any_order() -> None:
    records = [record(k, a, e) for k, (a, e) in enumerate(itertools.product((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)))]
    expected = [(r.evaluation, r.architecture) for r in ranking(records, TWO)]
    shuffled = list(records)
    random.Random(4).shuffle(shuffled)
    assert [(r.evaluation, r.architecture) for r in ranking(shuffled, TWO)] == expected


def test_a_registered_strategy_proposes_members() -> None:
    network = own_space()
    space = of_search(network)
    population = Population(network, 0, TWO, space)

    def entry(*proposals: Any) -> plugins.Entry:
        return plugins.Entry(
            "strategy", "mine", Strategy("mine", lambda seen, rng: iter(proposals)), plugins.Origin("mine.py", 1)
        )

    proposed = registered.propose(entry([(4, 0, 2)], [(1, 2)], [(4, 0, 1, "project(kernel=3)")]), population, 1)
    found = [c.architecture for c in proposed if c.origin == "mine"]
    assert [[tuple(m) for m in a if m[:2] != (3, 3)] for a in found] == [
        [(4, 0, 2, "", "add", "s")], [(1, 2, 1, "", "add", "s")], [(4, 0, 1, "project(kernel=3)", "add", "s")],
    ]  # fmt: skip
    assert all(space.holds(a) for a in found)
    for outside in ([(4, 0, 3)], [(4, 1)], [(4, 0), (4, 2), (5, 0)]):
        with pytest.raises(plugins.PluginError, match="no architecture of this search"):
            registered.propose(entry(outside), population, 1)


def test_a_space_between_ports_of_one_resolution() -> None:
    rules = (Rule("backward", "any", "any", delay=(1, 3)), Rule("fixed", 5, 0))
    network = landscape.spec(6, space=SpaceSpec(rules=rules), same_resolution=True)
    assert of_search(network).count == 2 * 21 - 1
    halved = NetworkSpec(**(dict(chain(6, halve_at=(3,)).__dict__) | {"search": network.search}))
    found = of_search(halved)
    assert {(m.source < 3) == (m.target < 3) for m in found.members} == {True}
    assert (found.count, found.fixed) == (2 * 12, ((5, 0, 1, "", "add", "s"),))
