from __future__ import annotations

import math
import random
from typing import Any

import pytest

from bcgraph import plugins, pruning, schema
from bcgraph.errors import RunError, SearchError
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Evaluation, Note, Record, ranking
from bcgraph.search.space.search_space import space
from bcgraph.search.strategies import selection
from bcgraph.search.strategies.evolution import evolve
from tests.search import landscape

INITIAL = [(), ((0, 0),), ((1, 0), (2, 1)), ((3, 3),)]


STRATEGIES = [name for name in plugins.names("strategy") if not pruning.one_run(name) and name != "halving"]


def run(spec: Any, seed: int = 0, history: tuple = (), **more: Any) -> list[Record | Note]:
    fake = landscape.Fake(**more)
    return list(evolve(spec, fake, seed=seed, initial=INITIAL, history=history))


def with_strategy(strategy: Any, iterations: int) -> NetworkSpec:
    settings = schema.EvolveSpec(strategy=strategy, iterations=iterations, top=4, population=8, offspring=3)
    return landscape.spec(8, evolve=settings)


def records(found: list) -> list[Record]:
    return [r for r in found if isinstance(r, Record)]


def same(a: list, b: list) -> bool:
    return [r.as_data() for r in records(a)] == [r.as_data() for r in records(b)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_populations(strategy: str) -> None:
    spec = landscape.spec(
        8, evolve=schema.EvolveSpec(strategy=strategy, iterations=4, top=4, population=8, offspring=3)
    )
    found = records(run(spec))
    by_iteration = [[r for r in found if r.iteration == i] for i in range(5)]
    assert [len(p) for p in by_iteration] == [4, 8, 8, 8, 8]
    assert all([r.index for r in p] == list(range(len(p))) for p in by_iteration)
    architectures = [r.architecture for r in found]
    assert len(set(architectures)) == len(architectures), "none is evaluated twice"
    assert all(len(a) <= 2 for a in architectures)
    assert [r.architecture for r in by_iteration[0]] == INITIAL


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_seed_decides(strategy: str) -> None:
    spec = landscape.spec(
        8, evolve=schema.EvolveSpec(strategy=strategy, iterations=3, top=4, population=8, offspring=3)
    )
    assert same(run(spec, 3), run(spec, 3))
    assert not same(run(spec, 3), run(spec, 4))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("cut", [0, 1, 4, 9, 20])
def test_resumed_equals_uninterrupted(strategy: str, cut: int) -> None:
    spec = landscape.spec(
        8, evolve=schema.EvolveSpec(strategy=strategy, iterations=3, top=4, population=8, offspring=3)
    )
    whole = records(run(spec))
    fake = landscape.Fake()
    rest = list(evolve(spec, fake, seed=0, initial=INITIAL, history=whole[:cut]))
    assert same(whole[:cut] + records(rest), whole)
    assert len(fake.asked) == len(whole) - cut


def test_foreign_history_is_refused() -> None:
    spec = landscape.spec()
    history = records(run(spec))
    with pytest.raises(RunError) as caught:
        run(spec, seed=1, history=tuple(history))
    assert caught.value.code == "E085"


def test_origins_are_up_to_offspring() -> None:
    found = records(run(landscape.spec(12)))
    for iteration in range(1, 6):
        origins = [r.origin for r in found if r.iteration == iteration]
        assert origins.count("mutation") <= 3
        assert origins.count("crossover") <= 3
        assert len(origins) == 8


def test_children_come_from_the_best() -> None:
    # Each mutated child lies one move per connection away from one of the four best seen before it.
    spec = landscape.spec(12, evolve=schema.EvolveSpec(iterations=6, top=4, population=8, offspring=4, mutation=1.0))
    found = records(run(spec))
    for child in (r for r in found if r.origin == "mutation"):
        before = [r for r in found if r.iteration < child.iteration]
        top = ranking(before, "accuracy")[:4]
        assert any(one_move_each(parent.architecture, child.architecture) for parent in top)


def one_move_each(parent: tuple, child: tuple) -> bool:
    def close(p: tuple[int, int], c: tuple[int, int]) -> bool:
        moved = (abs(p[0] - c[0]), abs(p[1] - c[1]))
        return min(moved) == 0 and max(moved) <= 2

    if len(parent) != len(child):
        return False
    orders = [child, child[::-1]]
    return any(all(close(p, c) for p, c in zip(parent, order, strict=True)) for order in orders)


def test_evolution_beats_random_here() -> None:
    def best(strategy: str, seed: int) -> float:
        settings = schema.EvolveSpec(strategy=strategy, iterations=8, top=4, population=8, offspring=3, mutation=0.7)
        return max(r.evaluation.value("accuracy") for r in records(run(landscape.spec(14, evolve=settings), seed)))

    evolved = [best("evolutionary", s) for s in range(12)]
    drawn = [best("random", s) for s in range(12)]
    assert sum(evolved) > sum(drawn)


def test_an_exhausted_space_ends_the_search_with_a_note() -> None:
    spec = landscape.spec(2, evolve=schema.EvolveSpec(iterations=9, top=2, population=3, offspring=1))
    found = list(evolve(spec, landscape.Fake(), seed=0, initial=[()]))
    assert len(records(found)) == space(spec, 2).size == 7
    assert isinstance(found[-1], Note)
    assert "7 architectures" in found[-1].text


def test_dead_candidates_rank_last_and_stay() -> None:
    found = records(run(landscape.spec()))
    dead = [r for r in found if r.architecture == ((3, 3),)]
    assert dead[0].evaluation.accuracy == -math.inf
    assert dict(dead[0].evaluation.reasons)["accuracy"] == "dead on purpose"
    assert ranking(found, "accuracy")[-1] is dead[0]


def test_not_a_number_never_wins() -> None:
    nan = Record("evolve", 0, 0, (), Evaluation(accuracy=math.nan), "selected")
    fine = Record("evolve", 0, 1, ((0, 0),), Evaluation(accuracy=-5.0), "selected")
    assert ranking([nan, fine], "accuracy") == [fine, nan]


# --- Selection --------------------------------------------------------------------------------------------


def scored(values: list[tuple[float, float]]) -> list[Record]:
    return [Record("init", 0, k, ((k, 0),), Evaluation(n=n, e=e), "pool") for k, (n, e) in enumerate(values)]


def test_selection_takes_turns_and_skips_repeats() -> None:
    #                 n: 0 1 2 3 4      e: 2 0 4 1 3
    pool = scored([(9, 8), (8, 6), (7, 9), (6, 5), (5, 7)])
    chosen = [r.index for r in selection.select(pool, ("n", "e"), 4)]
    assert chosen == [0, 2, 1, 4]
    assert [r.index for r in selection.select(pool, ("n",), 3)] == [0, 1, 2]
    assert [r.index for r in selection.select(pool, ("e",), 3)] == [2, 0, 4]
    assert len(selection.select(pool, ("n", "e"), 99)) == 5


def test_selection_puts_the_dead_last_and_the_earlier_first() -> None:
    pool = scored([(-math.inf, 1), (3, 1), (3, 1), (2, -math.inf)])
    assert [r.index for r in selection.select(pool, ("n", "e"), 4)] == [1, 0, 2, 3]


def test_the_pool_is_a_uniform_draw_without_repeats() -> None:
    spec = landscape.spec(8)
    pool = selection.pool(spec, 5)
    assert len(pool) == len(set(pool)) == 30
    assert pool == selection.pool(spec, 5) != selection.pool(spec, 6)
    everything = landscape.spec(init=schema.InitSpec(pool="all", keep=6))
    assert selection.pool(everything, 0) == list(space(everything, 2))
    larger = landscape.spec(init=schema.InitSpec(pool=5000, keep=6))
    assert selection.pool(larger, 0) == list(space(larger, 2))
    assert "5000" in selection.check(larger)[0].text
    assert selection.pool(landscape.spec(init=schema.InitSpec(pool=0)), 0) == []


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"init": schema.InitSpec(pool=5, keep=6)}, "init.keep = 6 is more than init.pool = 5"),
        ({"init": schema.InitSpec(scores=())}, "scores is empty"),
        ({"evolve": schema.EvolveSpec(top=9, population=8)}, "evolve.top = 9 is more than evolve.population = 8"),
    ],
)
def test_settings_that_contradict_each_other(search: dict, words: str) -> None:
    with pytest.raises(SearchError) as caught:
        selection.check(landscape.spec(**search))
    assert caught.value.code == "E089"
    assert words in str(caught.value)


def test_several_contradictions_are_told_at_once() -> None:
    spec = landscape.spec(init=schema.InitSpec(pool=5, keep=6), evolve=schema.EvolveSpec(top=9, population=8))
    with pytest.raises(SearchError) as caught:
        selection.check(spec)
    assert len(caught.value.diagnostics) == 2


def test_records_survive_json() -> None:
    rng = random.Random(0)
    for _ in range(50):
        value = rng.choice([None, rng.random() * 10 ** rng.randint(-9, 9), 0.1 + 0.2])
        record = Record("evolve", 3, 7, ((2, 1), (4, 0)), Evaluation(n=value, accuracy=0.5), "mutation")
        assert Record.from_data(record.as_data()) == record
    dead = Record("init", 0, 1, (), Evaluation.failed(("n", "e"), "no spikes"), "pool")
    assert Record.from_data(dead.as_data()) == dead
