"""Several candidates at once: the scores and accuracies of each alone, and a failure of one is no other's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch.utils._python_dispatch import TorchDispatchMode

import bcgraph
from bcgraph import keys, plugins, register
from bcgraph.cli.inputs import candidates_at_once
from bcgraph.errors import BcgraphWarning, CompileError, SearchError
from bcgraph.plugins.values import OfGradients, OfSpikes
from bcgraph.schema import NetworkSpec
from bcgraph.search import sample
from bcgraph.search.evaluators import Standard
from bcgraph.search.options import LATER, Options
from bcgraph.search.records import directory
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.scorer import Scorer
from bcgraph.search.supernet import at_once, lanes
from bcgraph.search.supernet.at_once import AtOnce
from bcgraph.search.supernet.lanes import side_by_side
from bcgraph.search.supernet.lowered import Lowered, Lowering
from bcgraph.search.supernet.one_shot import OneShot
from bcgraph.search.supernet.prefix_cache import PrefixModel, suffix
from bcgraph.search.supernet.shared_weights import SharedWeights
from bcgraph.search.supernet.supernet import Supernet
from tests.search.test_incremental import batch, candidates, network

FLOAT64 = PRECISIONS["float64"]

SEARCH = """bcg 1
network net { input = image(1, 8, 8); steps = 3; backbone = tiny(width=4) }
data = digits(batch=64)
search {
  max_backward = 2
  init { pool = 8; keep = 3; scores = [n, e]; batch = 24 }
  supernet { epochs = 1 }
  evolve { iterations = 1; population = 4; top = 2; offspring = 1 }
}
train { epochs = 1 }
"""


@pytest.mark.parametrize("name", ["image", "sequence", "two states", "learned", "norm of each step"])
def test_scores_are_those_of_one_by_one(name: str) -> None:
    spec = network(name)
    given, many = batch(spec), candidates(spec, 2)
    alone = list(Scorer(given, 3, ("n", "e"), precision=FLOAT64)(many))
    # The last group is smaller than the others.
    found = list(Scorer(given, 3, ("n", "e"), precision=FLOAT64, at_once=len(many) - 2)(many))
    assert [f.n for f in found] == [a.n for a in alone]
    assert [f.e for f in found] == pytest.approx([a.e for a in alone], rel=1e-9)
    assert [f.reasons for f in found] == [a.reasons for a in alone]
    # Without gradients candidates share what they have in common.
    only = list(Scorer(given, 3, ("n",), precision=FLOAT64, at_once=len(many))(many))
    assert [f.n for f in only] == [a.n for a in alone]


def test_members_of_a_space_keep_their_own_projections() -> None:
    text = SEARCH.replace(
        "max_backward = 2",
        "space { backward any -> any { delay = [1, 2]; through = [project(), project(kernel=3)] }; at_most = 2 }",
    )
    spec = bcgraph.parse(text.replace("[n, e]", "[n]"))
    rng = keys.rng(3, "members")
    many = [sample(spec, rng) for _ in range(6)]
    same = [m for m in many if len(m.backward) > 0]
    given = batch(spec)
    alone = list(Scorer(given, 3, ("n", "e"), precision=FLOAT64)(same))
    found = list(Scorer(given, 3, ("n", "e"), precision=FLOAT64, at_once=6)(same))
    assert [f.n for f in found] == [a.n for a in alone]
    assert [f.e for f in found] == pytest.approx([a.e for a in alone], rel=1e-9)


@pytest.fixture
def registry() -> Iterator[None]:
    yield
    for entry in plugins.REGISTRY.entries():
        plugins.REGISTRY.remove(entry)


@pytest.mark.usefixtures("registry")
def test_registered_scores_share_the_pass() -> None:
    register.score("rate", OfSpikes(lambda codes: float(codes.mean()), lambda terms: sum(terms)))
    register.score("slope", OfGradients(lambda rows, y: float(rows.abs().sum())))
    register.score("weights", lambda model, x, y: float(model(x).detach().square().sum()))
    spec = network("image")
    given, many = batch(spec), candidates(spec, 2)
    measures = ("rate", "slope", "weights")
    alone = list(Scorer(given, 3, measures, inits=2, precision=FLOAT64)(many))
    found = list(Scorer(given, 3, measures, inits=2, precision=FLOAT64, at_once=4)(many))
    for ours, theirs in zip(found, alone, strict=True):
        assert dict(ours.scores) == pytest.approx(dict(theirs.scores), rel=1e-9)


def test_a_lane_is_only_where_a_candidate_differs() -> None:
    spec = network("image")
    prefix = PrefixModel.of(SharedWeights(0), spec)
    last = len(spec.ports) - 1
    # The same connection twice, one that comes late, and one that never arrives.
    many = [spec.with_backward(pairs) for pairs in ([(last, 1)], [(last, 1)], [(last, 3)], [(2, 0, spec.steps)])]
    programs = [suffix(Lowered.of(each).program, prefix.nodes, prefix.cached) for each in many]
    merged = side_by_side(programs, lambda p: p.outputs, inputs=1)
    where = [lanes["O"] for lanes in merged.where]
    assert where[0] == where[1] != where[2]
    assert where[3] == ("O", 0)  # of the cache
    convs = [node for node in merged.program.nodes if node.op == "conv"]
    # What only the first two reach runs in one lane, what both kinds reach in two, projections of the cache in one.
    early = {node.outputs[0].steps for node in convs if "layer1.0.conv2@t1" in node.name}
    late = {node.outputs[0].steps for node in convs if "layer2.0.conv2@t2" in node.name}
    assert (early, late) == ({0}, {2})
    assert sum("backward.4_1.conv@t0" in node.name for node in convs) == 1
    apart = side_by_side(programs, lambda p: p.outputs, inputs=1, apart=4)
    assert [lanes["O"].number for lanes in apart.where[:3]] == [0, 1, 2]


def test_a_failure_is_that_of_its_candidate_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = network("image")
    given, many = batch(spec), candidates(spec, 1)
    expected = list(Scorer(given, 3, ("n",), precision=FLOAT64)(many))
    lowered = Lowering.__call__

    def refusing(self: Lowering, candidate: NetworkSpec) -> Lowered:
        if candidate == many[2]:
            raise CompileError("E072", "not this one")
        return lowered(self, candidate)

    monkeypatch.setattr(Lowering, "__call__", refusing)
    found = list(Scorer(given, 3, ("n",), precision=FLOAT64, at_once=4)(many))
    assert found[2].n == -float("inf")
    assert "not this one" in dict(found[2].reasons)["n"]
    assert [f for i, f in enumerate(found) if i != 2] == [e for i, e in enumerate(expected) if i != 2]


def in_three(several: Any, fails: str = "start") -> Any:
    """What `AtOnce` takes: prepares a group, starts it and finishes it, with `several` in one of the three."""

    def prepare(part: Any) -> Any:
        found = several(part) if fails == "prepare" else None

        def start() -> Any:
            given = several(part) if fails == "start" else found
            return lambda: several(part) if fails == "finish" else given

        return start

    return prepare


@pytest.mark.parametrize("fails", ["prepare", "start", "finish"])
def test_a_group_that_fails_runs_one_by_one_and_says_so(fails: str) -> None:
    def several(part: Any) -> Any:
        if 2 in part:
            raise ValueError("no\nmore")
        return [item * 10 for item in part]

    with pytest.warns(BcgraphWarning, match="2 candidates at once failed, and run one by one: no$") as said:
        assert list(AtOnce(2)(range(7), in_three(several, fails), lambda item: item * 10)) == [*range(0, 70, 10)]
    assert len(said) == 1


def test_the_next_group_is_prepared_while_the_device_runs_one() -> None:
    seen: list[str] = []

    def prepare(part: Any) -> Any:
        seen.append(f"prepare {part[0]}")

        def start() -> Any:
            seen.append(f"start {part[0]}")

            def finish() -> Any:
                seen.append(f"finish {part[0]}")
                return list(part)

            return finish

        return start

    assert list(AtOnce(2)(range(7), prepare, lambda item: item)) == [*range(7)]
    assert seen == [
        *("prepare 0", "start 0", "prepare 2", "finish 0"),
        *("start 2", "prepare 4", "finish 2"),
        *("start 4", "finish 4"),
    ]


class _Waits(TorchDispatchMode):
    """Refuses what would wait for a device: to read a number, or to see how many there are."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function.overloadpacket not in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.equal,
            torch.ops.aten._unique2,
        ), function
        return function(*args, **(kwargs or {}))


def test_to_start_a_group_waits_for_nothing() -> None:
    spec = network("image")
    given, many = batch(spec), candidates(spec, 3)
    scorer = Scorer(given, 3, ("n", "e"), precision=FLOAT64, at_once=3)
    alone = list(scorer(many[:3]))
    start = scorer._several(many[:3])
    with _Waits():
        finish = start()
    assert list(finish()) == alone
    with pytest.raises(AssertionError, match="_local_scalar_dense"), _Waits():
        float(torch.ones(()))


@pytest.mark.parametrize("fails", ["prepare", "start", "finish"])
def test_without_memory_half_as_many_run_from_then_on(fails: str) -> None:
    sizes: list[int] = []

    def several(part: Any) -> Any:
        sizes.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [item * 10 for item in part]

    runs = AtOnce(8)
    with pytest.warns(BcgraphWarning) as said:
        found = list(runs(range(9), in_three(several, fails), lambda item: item * 10))
    assert found == [item * 10 for item in range(9)]
    assert [str(each.message) for each in said] == [
        f"there is no memory for {before} candidates at once: {after} from here on"
        for before, after in ((8, 4), (4, 2))
    ]
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert runs.number == 2

    def grouped(groups: Any) -> Any:
        return [item for group in groups for item in several(group)]

    with pytest.warns(BcgraphWarning, match="4 candidates at once: 2 from here on"):
        assert AtOnce(4).together(range(9), grouped, list) == [item * 10 for item in range(9)]
    with pytest.warns(BcgraphWarning, match="9 candidates at once failed, and run one by one: no$"):
        assert AtOnce(4).together(range(9), lambda groups: _no(), list) == list(range(9))
    assert AtOnce(1).together(range(3), grouped, list) == [0, 1, 2]


def _no() -> Any:
    raise ValueError("no")


def test_what_the_memory_takes_is_a_power_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = bcgraph.parse(SEARCH)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert at_once.fitting(spec) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    values = Lowered.of(spec.with_connections()).program.values().values()
    each = 2 * 4 * 24 * sum(torch.Size(v.shape).numel() for v in values)
    for wanted, free in ((1, 0.5), (1, 1.9), (4, 7.5), (32, 1000)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (int(free * each / at_once.SHARE) + 8, 0))
        assert at_once.fitting(spec) == wanted


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> OneShot:
    train, validation = Standard(bcgraph.parse(SEARCH), 0, tmp_path_factory.mktemp("run")).splits
    supernet = Supernet(bcgraph.parse(SEARCH), 0, train)
    x, _ = train.take(range(64))
    with torch.no_grad():
        for pair in range(supernet.space.pairs):
            supernet.model((supernet.space.pair(pair),)).train()(x)
    return OneShot(supernet, validation)


@pytest.mark.parametrize("whole", [False, True])
def test_accuracies_are_those_of_one_by_one(shot: OneShot, whole: bool) -> None:
    spec = shot.supernet.spec
    many = candidates(spec, 4)
    validation = shot.validation.subset(range(100))
    alone = OneShot(shot.supernet, validation, whole=whole).tally(many)
    found = OneShot(shot.supernet, validation, whole=whole, at_once=5).tally(many)
    assert found == alone
    assert len({t.correct for t in found}) > 1


def test_outputs_of_the_supernet_are_those_of_one_by_one(shot: OneShot) -> None:
    spec = shot.supernet.spec
    weights = SharedWeights(5, dtype=torch.float64)
    model = PrefixModel.of(weights, spec, inference=True)
    many = [Lowered.of(each) for each in candidates(spec, 3)]
    x = torch.randn(9, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        cache = model.cache(x)
        together = lanes.compiled(model, many)
        # Twice: the memory of the first call is used again.
        for _ in range(2):
            found = together.run(cache.x, [cache.values[name] for name in together.reads])
            for place, each in enumerate(many):
                wanted = cache.run(model.suffix(each))
                torch.testing.assert_close(together.output(found, place), wanted, rtol=1e-9, atol=1e-12)


def test_a_search_records_it_and_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    spec = bcgraph.parse(SEARCH.replace("[n, e]", "[n]").replace("evolve {", "evolve { score = n;"))
    options = Options(score_dtype="float64", at_once=3)
    plain = bcgraph.search.run(spec, tmp_path / "plain", options=Options(score_dtype="float64"))

    class StoppedError(Exception):
        pass

    def stop(event: Any) -> None:
        if event.stage == "init" and event.done == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        bcgraph.search.run(spec, tmp_path / "run", options=options, progress=stop)
    found = bcgraph.search.run(spec, tmp_path / "run", options=options)
    assert [(r.architecture, r.evaluation) for r in found.records] == [
        (r.architecture, r.evaluation) for r in plain.records
    ]
    assert directory.at_once(tmp_path / "run") == 3
    assert directory.at_once(tmp_path / "plain") == 1
    assert directory.at_once(tmp_path / "none") is None


def test_the_number_on_the_command_line() -> None:
    assert candidates_at_once("auto") is None
    assert candidates_at_once("12") == 12
    for text in ("", "-1", "1.5", "many", "٣"):
        with pytest.raises(typer.BadParameter, match="neither a number nor auto"):
            candidates_at_once(text)


def test_options() -> None:
    assert "at_once" not in Options().as_data()
    assert Options(at_once=1).as_data() == Options().as_data()
    assert Options(at_once=4).as_data()["at_once"] == 4
    assert LATER["at_once"] == 1
    with pytest.raises(SearchError, match="--candidates-at-once 0"):
        Options(at_once=0)
    with pytest.raises(SearchError, match="workers evaluate their candidates one by one"):
        Options(at_once=4, workers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Options(at_once=1, workers=2)
