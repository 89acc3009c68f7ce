"""`strategy = gains`: one training run of all connections, pruned while its weights go on."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import bcgraph
from bcgraph import artifacts, data, keys, names, pruning, training, weights
from bcgraph.data import Splits
from bcgraph.errors import BcgraphWarning, RunError, SearchError, SpecError
from bcgraph.nn.graphs.capture import CallAgain, CudaCapture
from bcgraph.nn.graphs.recordings import Recordings
from bcgraph.profile import profile
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, evolve, history, run
from bcgraph.search.evaluators import Standard
from bcgraph.search.finish.training import Trainer
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.strategies.standard.gains import prune
from bcgraph.search.supernet.pruned_run import STATE, PrunedRun, trained
from bcgraph.training.distributed.devices import process_group
from bcgraph.viz import report
from tests.imitated_gpu import gpus
from tests.reference import Reference
from tests.search import studies

TEXT = """
bcg 1
network five {{ input = image(1, 8, 8); steps = 3; backbone = tiny(width=3, classes=10) }}
data = digits(batch=30)
search {{ evolve {{ strategy = gains; {evolve} }} }}
train {{ epochs = 6; {train} }}
"""
PORTS = 6_000
EVERY = tuple((j, i) for j in range(5) for i in range(j + 1))


def spec(evolve: str = "keep = 3; stages = 2; prune_until = 0.7", train: str = "loss = tet") -> NetworkSpec:
    return bcgraph.parse(TEXT.format(evolve=evolve, train=train))


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any]:
    """Few samples for training and for validation."""
    found = spec()
    return data.load(found.data, found.input, found.steps).train.subset(range(110)).divide(0.8, 0)


@pytest.fixture
def few(small: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches see few samples."""
    monkeypatch.setattr(Standard, "splits", small)


# --- When it prunes, and what stays --------------------------------------------------------------------------


def test_stages_end_before_the_run_and_fall_by_a_constant_factor() -> None:
    found = pruning.stages(spec("keep = 2; stages = 3; prune_until = 0.5"))
    assert [s.end for s in found] == [1, 2, 3, 6]
    assert [s.connections for s in found] == [15, 8, 4, 2]
    assert {s.operations for s in found} == {math.inf}
    uneven = pruning.stages(spec("keep = 1; stages = 4; prune_until = 0.99"))
    assert [s.end for s in uneven] == [2, 3, 4, 5, 6][:5]
    assert [s.connections for s in pruning.stages(spec("keep = 15; stages = 1"))] == [15, 15]


def test_the_bound_on_operations_is_met_at_the_end() -> None:
    network = spec("keep = 15; stages = 2; extra_operations = 0.06")
    found = pruning.stages(network)
    own = pruning.backbone_operations(network)
    assert found[0].operations == math.inf
    assert sum(pruning.costs(network).values()) > found[1].operations > found[2].operations
    assert found[2].operations == pytest.approx(0.06 * own)
    kept = pruning.survivors(network, dict.fromkeys(EVERY, 1.0), found[2])
    spent = sum(pruning.costs(network)[pair] for pair in kept)
    assert 0 < spent <= 0.06 * own
    assert spent + min(pruning.costs(network).values()) > 0.06 * own, "another one would have fitted"


def test_the_loudest_stay_and_what_is_too_dear_gives_way() -> None:
    network = spec()
    stage = pruning.Stage(3, 3, math.inf)
    scales = dict.fromkeys(EVERY, 0.1) | {(3, 1): 0.5, (4, 4): 0.3}
    assert pruning.survivors(network, scales, stage) == ((0, 0), (3, 1), (4, 4))
    cost = pruning.costs(network)
    dear = max(cost, key=lambda pair: cost[pair])
    cheap = min(cost, key=lambda pair: cost[pair])
    bounded = replace(stage, operations=cost[dear] - 1)
    assert pruning.survivors(network, {dear: 9.0, cheap: 0.1}, bounded) == (cheap,)


def test_operations_are_those_that_profile_counts() -> None:
    network = spec()
    found = profile(network.with_backward(EVERY))
    assert pruning.costs(network) == {
        (c.source, c.target): sum(n.operations for n in c.layers) for c in found.connections
    }
    assert pruning.backbone_operations(network) == sum(n.operations for n in found.layers if n.kind != "backward")


def test_pairs_are_those_of_the_space() -> None:
    assert pruning.every(spec()) == EVERY
    text = TEXT.format(evolve="keep = 1; stages = 1", train="")
    same = bcgraph.parse(text.replace("search {", "search { same_resolution = true;"))
    assert pruning.count(spec()) == 15
    assert pruning.count(same) == 9
    assert pruning.every(same) == ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 3), (4, 3), (4, 4))


@pytest.mark.parametrize(
    "layers",
    [f"repeat i in range({PORTS}) {{ [i] = lif() }}", "a = conv(200000, 1); b = lif()"],
)
def test_more_than_a_network_holds_is_refused_before_it_is_built(layers: str) -> None:
    block = f"block deep() {{ {layers}; adaptive_avgpool(1); flatten(); fc = linear(10) }}\nnetwork"
    text = TEXT.format(evolve="keep = 1; stages = 1", train="").replace("network", block)
    began = time.monotonic()
    with pytest.raises(SpecError, match="of the space at once would make the network too large") as caught:
        bcgraph.parse(text.replace("tiny(width=3, classes=10)", "deep()"))
    assert time.monotonic() - began < 10
    assert [d.code for d in caught.value.diagnostics] == ["E089"]


def test_settings_that_cannot_be_met_are_refused_without_a_text_too() -> None:
    fields = dict(spec().search.evolve.__dict__) | {"keep": 16}
    network = spec()
    evolve = type(network.search.evolve)(**fields)
    settings = type(network.search)(**(dict(network.search.__dict__) | {"evolve": evolve}))
    wrong = NetworkSpec(**(dict(network.__dict__) | {"search": settings}))
    with pytest.raises(SearchError, match="the space has 15 connections") as caught:
        run(wrong, Path("nowhere"))
    assert caught.value.code == "E089"
    with pytest.raises(ValueError, match="`keep` is no setting of `strategy = random`"):
        type(evolve)(strategy="random", keep=3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"workers": 2}, "--workers"),
        ({"devices": 2}, "--devices"),
        ({"accuracy_dtype": "int16"}, "--accuracy-dtype"),
        ({"ray": "auto"}, "--ray"),
    ],
)
def test_options_without_use_are_refused(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(SearchError, match=f"no use for {named}"):
        run(spec(), tmp_path, options=Options(**options))
    assert not list(tmp_path.iterdir())


# --- The strategy ------------------------------------------------------------------------------------------


def fake(stage: int, candidate: Candidate) -> Evaluation:
    """Scales that grow with the port of the source."""
    return Evaluation(accuracy=0.1 * stage, scales=tuple(0.01 + 0.1 * j + 0.001 * i for j, i in candidate.architecture))


def test_each_stage_keeps_the_loudest_of_the_one_before() -> None:
    found = list(prune(spec("keep = 2; stages = 3"), fake))
    assert [len(r.architecture) for r in found] == [15, 8, 4, 2]
    assert found[-1].architecture == ((4, 3), (4, 4))
    assert [(r.stage, r.iteration, r.index, r.origin) for r in found] == [("evolve", n, 0, "gains") for n in range(4)]
    again = list(prune(spec("keep = 2; stages = 3"), fake, history=found[:2]))
    assert again == found[2:]


def test_it_is_no_evolution() -> None:
    with pytest.raises(SearchError, match="one training run"):
        list(evolve(spec(), lambda specs: [], seed=0, initial=[]))


def test_a_log_of_another_search_is_refused() -> None:
    found = list(prune(spec("keep = 2; stages = 3"), fake))
    with pytest.raises(RunError, match="stage 1 in the log"):
        list(prune(spec("keep = 2; stages = 2"), fake, history=found[:2]))
    with pytest.raises(RunError, match="stage 4 in the log"):
        list(prune(spec("keep = 2; stages = 3"), fake, history=[*found, found[-1]]))


# --- The run -----------------------------------------------------------------------------------------------


def test_without_pruning_and_penalty_it_is_the_training_run(small: tuple[Any, Any], tmp_path: Path) -> None:
    network = spec("keep = 15; stages = 1; penalty = 0", "label_smoothing = 0.1; clip = 1; ema = 0.9")
    train, validation = small
    pruned = PrunedRun(network, 3, train, validation, tmp_path, lambda _: None)
    base = pruning.quiet(network)
    for stage in range(2):
        found = pruned(stage, Candidate.at(base, EVERY, "gains"))
    given = data.load(network.data, network.input, network.steps)
    splits = replace(given, train=train, test=validation)
    whole = training.train(base.with_backward(EVERY), out=tmp_path / "train", seed=3, splits=splits)
    theirs = weights.load(whole.path)
    ours = trained(tmp_path, network, 3, base.with_backward(EVERY))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(RunError, match="holds the run of something else"):
        trained(tmp_path, network, 4, base.with_backward(EVERY))
    assert found.accuracy == whole.accuracy


def batches_of(network: NetworkSpec, split: Any, seed: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    for epoch in range(network.train.epochs):
        key = keys.derive(seed, "train", epoch)
        for x, y in split.batches(network.data.batch, key):
            yield epoch, x.double(), y


def by_hand(network: NetworkSpec, state: dict[str, Tensor], split: Any, seed: int) -> tuple[Any, list[Any]]:
    """The whole run on the plain reference network, with AdamW, the penalty and the pruning written out."""
    stages, settings = pruning.stages(network), pruning.of(network)
    architecture = EVERY
    net = Reference(network.with_backward(architecture), state)
    moments = {n: [torch.zeros_like(p), torch.zeros_like(p), 0] for n, p in net.parameters.items()}
    seen: list[Any] = []
    samples, size = len(split), network.data.batch
    total = network.train.epochs * math.ceil(samples / size)
    stage = 0
    for update, (epoch, x, y) in enumerate(batches_of(network, split, seed)):
        if epoch == stages[stage].end:
            sizes = {p: net.parameters[names.projection(*p, "bn.weight")].abs().mean().item() for p in architecture}
            seen.append(sizes)
            stage += 1
            loud = sorted(sizes, key=lambda p: -sizes[p])[: stages[stage].connections]
            architecture = tuple(sorted(loud))
            net.spec = network.with_backward(architecture)
        net.zero_grad()
        outputs = net(x, training=True).output
        (sum(F.cross_entropy(o, y) for o in outputs) / len(outputs)).backward()  # type: ignore[union-attr]
        lr = 0.01 * 0.5 * (1 + math.cos(math.pi * update / total))
        with torch.no_grad():
            for name, value in net.parameters.items():
                owner = names.parse_projection(name)
                if owner is not None and (owner.source, owner.target) not in architecture:
                    continue
                first, second, _ = moments[name]
                moments[name][2] += 1
                count = moments[name][2]
                assert value.grad is not None
                value *= 1 - lr * 0.02
                first += 0.1 * (value.grad - first)
                second += 0.001 * (value.grad**2 - second)
                value -= lr * first / (1 - 0.9**count) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)
            if stage + 1 < len(stages):
                for pair in architecture:
                    scale = net.parameters[names.projection(*pair, "bn.weight")]
                    rms = scale.square().mean().sqrt()
                    scale *= max(0.0, 1 - lr * settings.penalty / float(rms))
    return net, seen


@pytest.mark.parametrize("captured", [False, True], ids=["plain", "captured"])
def test_it_agrees_with_the_plain_reference(captured: bool, small: tuple[Any, Any], tmp_path: Path) -> None:
    network = spec("keep = 3; stages = 2; prune_until = 0.7; penalty = 2")
    train, validation = small
    recordings = Recordings(CallAgain()) if captured else None
    pruned = PrunedRun(
        network, 5, train, validation, tmp_path, lambda _: None, dtype=torch.float64, recordings=recordings
    )
    first = {name: value.clone() for name, value in pruned.full.state_dict().items()}
    found = list(prune(network, pruned))
    assert [len(r.architecture) for r in found] == [15, 7, 3]
    net, seen = by_hand(network, first, train, 5)
    for record, sizes in zip(found, seen, strict=False):
        assert tuple(sizes) == record.architecture
        assert list(sizes.values()) == pytest.approx(record.evaluation.scales, rel=1e-6)
    for name, value in pruned.full.state_dict().items():
        theirs = net.parameters.get(name, net.buffers.get(name))
        torch.testing.assert_close(value, theirs.detach(), rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.slow
def test_replays_give_the_bits_of_plain_steps(small: tuple[Any, Any], tmp_path: Path) -> None:
    """What is pruned, added to the scales between two replays, and evaluated is as with plain steps."""
    text = TEXT.format(evolve="keep = 3; stages = 2; prune_until = 0.7; penalty = 2", train="loss = tet")
    network = bcgraph.parse(text.replace("epochs = 6", "epochs = 3").replace("steps = 3", "steps = 2"))
    found = []
    for name in ("replayed", "again"):
        (tmp_path / name).mkdir()
        with gpus() as gpu, warnings.catch_warnings(action="error", category=BcgraphWarning):
            capture = CudaCapture() if name == "replayed" else CallAgain()
            recordings = Recordings(capture)
            group = process_group(training.Options("cuda"))
            pruned = PrunedRun(
                network,
                5,
                *small,
                tmp_path / name,
                lambda _: None,
                group,
                graphs="off" if name == "again" else "auto",
                recordings=recordings,
            )
            records = list(prune(network, pruned))
            values = {key: value.cpu() for key, value in pruned.full.state_dict().items()}
            assert (gpu.replays > 0) == (name == "replayed")
        found.append(([(r.architecture, r.evaluation) for r in records], values))
    assert found[0][0] == found[1][0]
    for key, value in found[1][1].items():
        assert torch.equal(found[0][1][key], value), key


def test_the_precision_belongs_to_the_runs_of_a_search(small: tuple[Any, Any], tmp_path: Path) -> None:
    text = TEXT.format(evolve="keep = 15; stages = 1; penalty = 0", train="loss = tet")
    network = bcgraph.parse(text.replace("epochs = 6", "epochs = 2"))
    half = training.Options(precision="bf16-mixed")
    made = Standard(network, 3, tmp_path, machine=half)
    assert made.gains(lambda _: None).precision == made.finish(lambda _: None).precision == "bf16-mixed"  # type: ignore[attr-defined]
    group, everything = process_group(half), pruning.quiet(network)
    pruned = PrunedRun(network, 3, *small, tmp_path, lambda _: None, group, precision="bf16-mixed")
    pruned(0, Candidate.at(everything, EVERY, "gains"))
    with pytest.raises(RunError, match="holds the run of something else"):
        PrunedRun(network, 3, *small, tmp_path, lambda _: None)
    assert trained(tmp_path, network, 3, everything.with_backward(EVERY))
    Trainer(*small, tmp_path, precision="bf16-mixed").one(network, 0, tmp_path / "last")
    with pytest.raises(RunError, match="precision: bf16-mixed in the checkpoint, 32 now"):
        Trainer(*small, tmp_path).one(network, 0, tmp_path / "last")


def test_the_penalty_makes_connections_quieter(small: tuple[Any, Any], tmp_path: Path) -> None:
    def loudness(penalty: float) -> float:
        network = spec(f"keep = 15; stages = 1; penalty = {penalty}")
        pruned = PrunedRun(network, 1, *small, tmp_path / str(penalty), lambda _: None)
        return sum(pruned(0, Candidate.at(pruning.quiet(network), EVERY, "gains")).scales)

    for name in ("0.0", "0.5", "1000.0"):
        (tmp_path / name).mkdir()
    free, light, strong = loudness(0.0), loudness(0.5), loudness(1000.0)
    assert free > light > strong == 0


def test_a_stage_that_the_log_has_lost_is_not_made_up(small: tuple[Any, Any], tmp_path: Path) -> None:
    network = spec()
    base = pruning.quiet(network)
    pruned = PrunedRun(network, 1, *small, tmp_path, lambda _: None)
    pruned(0, Candidate.at(base, EVERY, "gains"))
    pruned(1, Candidate.at(base, EVERY[:7], "gains"))
    again = PrunedRun(network, 1, *small, tmp_path, lambda _: None)
    with pytest.raises(RunError, match="the log lacks stage 0"):
        again(0, Candidate.at(base, EVERY, "gains"))


def test_a_gain_of_zero_trains(small: tuple[Any, Any], tmp_path: Path) -> None:
    network = spec("keep = 15; stages = 1; gain = 0; penalty = 0.1")
    pruned = PrunedRun(network, 1, *small, tmp_path, lambda _: None)
    found = pruned(0, Candidate.at(pruning.quiet(network), EVERY, "gains"))
    assert all(math.isfinite(scale) for scale in found.scales)
    assert sum(found.scales) > 0


# --- The search --------------------------------------------------------------------------------------------


def search(out: Path, network: NetworkSpec | None = None, **more: Any) -> Any:
    return run(network or spec(), out, hooks=[artifacts.write], **more)


def tensors(path: Path) -> dict[str, Tensor]:
    return weights.unpack(path)[0]


def same(here: Path, there: Path) -> bool:
    a, b = tensors(here), tensors(there)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(small: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Standard, "splits", small)
        search(out, spec(train="ema = 0.9"))
    return out


def test_what_a_search_writes(whole: Path, small: tuple[Any, Any]) -> None:
    found = history(whole)
    assert found["finished"] is True
    assert [(e["stage"], e["iteration"], len(e["backward"])) for e in found["evaluations"]] == [
        ("evolve", 0, 15),
        ("evolve", 1, 7),
        ("evolve", 2, 3),
    ]
    assert all(0 <= e["accuracy"] <= 1 and len(e["scales"]) == len(e["backward"]) for e in found["evaluations"])
    assert found["chosen"] == found["evaluations"][-1]
    assert studies.evaluations(whole) == found["evaluations"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found

    best = bcgraph.load(whole / "best.bcg")
    assert [[bc.source, bc.target] for bc in best.backward] == found["chosen"]["backward"]
    assert best.feedback.gain == 0.1
    assert (whole / "best.bcg").read_text().splitlines()[1].startswith("# Pruned in 2 stages to 3, validation accuracy")
    # The weights are those of the run: the network has the accuracy that the search has measured.
    model = bcgraph.compile(best)
    model.load_state_dict(weights.load(whole / "best.safetensors", spec=best))
    assert training.evaluate(model, small[1]) == found["chosen"]["accuracy"]
    assert weights.metadata(whole / "best.safetensors")["origin"] == "training"
    assert (whole / "best.onnx").stat().st_size > 1000
    page = report.write(whole).read_text()
    assert "15 connections trained at once and pruned" in page
    assert "in stage 2" in page
    assert 'id="stages"' in page
    assert page.count("<tr><td>") == 15, "a row for each connection"


def test_names_of_what_stays_are_the_standard_ones(whole: Path) -> None:
    best = bcgraph.load(whole / "best.bcg")
    assert set(tensors(whole / "best.safetensors")) == set(bcgraph.compile(best).state_dict())


@pytest.mark.parametrize("stop", range(1, 7))
@pytest.mark.usefixtures("few")
def test_stopped_after_any_epoch_it_ends_the_same(whole: Path, tmp_path: Path, stop: int) -> None:
    def progress(event: Any) -> None:
        assert event.total == 6
        if event.done == stop:
            raise KeyboardInterrupt

    network = spec(train="ema = 0.9")
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, network, progress=progress)
    assert history(tmp_path)["finished"] is False
    search(tmp_path, network)
    assert history(tmp_path) == history(whole)
    assert same(tmp_path / STATE, whole / STATE)
    assert same(tmp_path / "best.safetensors", whole / "best.safetensors")
    assert (tmp_path / "best.bcg").read_bytes() == (whole / "best.bcg").read_bytes()


@pytest.mark.usefixtures("few")
def test_stopped_between_two_stages_it_ends_the_same(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = spec(train="ema = 0.9")
    called = PrunedRun.__call__

    def interrupted(self: PrunedRun, stage: int, candidate: Candidate) -> Evaluation:
        if stage == 1:
            raise KeyboardInterrupt
        return called(self, stage, candidate)

    with monkeypatch.context() as patch:
        patch.setattr(PrunedRun, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path, network)
    assert len(history(tmp_path)["evaluations"]) == 1
    search(tmp_path, network)
    assert history(tmp_path) == history(whole)
    assert same(tmp_path / STATE, whole / STATE)


@pytest.mark.usefixtures("few")
def test_a_finished_search_is_not_trained_again(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrunedRun, "__call__", None)
    before = history(whole)
    search(whole, spec(train="ema = 0.9"))
    assert history(whole) == before


def test_the_test_set_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search does without a test part."""
    load = data.load

    def without_test(*arguments: Any) -> Splits:
        found = load(*arguments)
        return replace(found, train=found.train.subset(range(110)), test=None)  # type: ignore[arg-type]

    monkeypatch.setattr(data, "load", without_test)
    result = run(spec("keep = 2; stages = 1"), tmp_path)
    assert len(result.best.backward) == 2


@pytest.mark.usefixtures("few")
def test_other_settings_are_another_run(whole: Path) -> None:
    with pytest.raises(RunError, match=r"search.evolve.keep: 3 there, 4 here") as caught:
        search(whole, spec("keep = 4; stages = 2; prune_until = 0.7", train="ema = 0.9"))
    assert caught.value.code == "E085"


@pytest.mark.usefixtures("few")
def test_the_network_found_keeps_within_the_bound(tmp_path: Path) -> None:
    result = search(tmp_path, spec("keep = 15; stages = 2; extra_operations = 0.05; penalty = 0"))
    own = pruning.backbone_operations(result.spec)
    cost = pruning.costs(result.spec)
    assert 0 < sum(cost[pair] for pair in result.chosen.architecture) <= 0.05 * own
