"""The supernet: one path a step, resumable to the bit, evaluated without a trace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import bcgraph
from bcgraph import data, weights
from bcgraph.errors import CompileError, RunError
from bcgraph.schema import NetworkSpec, Projection
from bcgraph.search.supernet import one_shot
from bcgraph.search.supernet.checkpoint import STATE, WEIGHTS, inherited
from bcgraph.search.supernet.one_shot import OneShot, kept_statistics
from bcgraph.search.supernet.prefix_cache import PrefixCache
from bcgraph.search.supernet.supernet import Supernet, SupernetEpoch
from bcgraph.training.accuracy import evaluate

TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; %s; backbone = tiny(width=3, classes=10) }
data = digits(batch=40)
search { supernet { epochs = %d } }
train { loss = tet }
"""


def spec(epochs: int = 3, more: str = "readout = mean") -> NetworkSpec:
    return bcgraph.parse(TEXT % (more, epochs))


@pytest.fixture(scope="module")
def splits() -> Any:
    found = spec()
    return data.load(found.data, found.input, found.steps).train.subset(range(300)).divide(0.8, 0)


def trained(splits: Any, out: Path, epochs: int = 3, stop: int | None = None) -> Supernet:
    supernet = Supernet(spec(epochs), 7, splits[0])

    def progress(done: SupernetEpoch) -> None:
        if done.epoch == stop:
            raise KeyboardInterrupt

    try:
        supernet.train(out, progress)
    except KeyboardInterrupt:
        assert stop is not None
    return supernet


def state(supernet: Supernet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in supernet.full.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_holds_a_projection_for_each_pair(splits: Any) -> None:
    names = set(Supernet(spec(), 0, splits[0]).full.state_dict())
    for source in range(5):
        for target in range(source + 1):
            assert f"backward.{source}_{target}.conv.weight" in names
            assert f"backward.{source}_{target}.bn.running_var" in names
    own = set(bcgraph.compile(spec()).state_dict())
    assert own <= names


def test_weights_that_are_not_finite_beside_a_finite_loss(splits: Any, tmp_path: Path) -> None:
    broken = """
surrogate broken() { 1 / (x - x) }
neuron own() { state v = 0; u = 0.5 * v + I; s = spike(u - 1, broken()); v = u * (1 - s) }
"""
    text = TEXT.replace("\nnetwork", f"{broken}network") % ("neuron = own()", 1)
    with pytest.raises(RunError, match="weights became nan or infinite in epoch 1") as caught:
        Supernet(bcgraph.parse(text), 7, splits[0]).train(tmp_path, lambda _: None)
    assert caught.value.code == "E088"
    assert not (tmp_path / WEIGHTS).exists()


def test_drawn_paths_are_uniform(splits: Any, chi_square: Any) -> None:
    supernet = Supernet(spec(), 0, splits[0])
    counts = Counter(supernet.drawn(epoch, step) for epoch in range(110) for step in range(110))
    every = dict.fromkeys(supernet.space, 1 / 121)
    assert chi_square(counts, every) > 0.001


def test_a_step_changes_only_its_path(splits: Any, tmp_path: Path) -> None:
    supernet = Supernet(spec(epochs=1), 7, splits[0].subset(range(40)))
    before = state(supernet)
    path = supernet.drawn(0, 0)
    supernet.train(tmp_path, lambda _: None)
    after = state(supernet)
    used = set(bcgraph.compile(spec().with_backward(path)).state_dict())
    for name in before:
        if name not in used:
            assert torch.equal(before[name], after[name]), name
    moved = {n for n in used if not torch.equal(before[n], after[n])}
    assert {"conv1.weight", "fc.weight", "bn1.running_mean", *(f"backward.{j}_{i}.bn.weight" for j, i in path)} <= moved


@pytest.mark.parametrize("stop", [1, 2])
def test_resumed_equals_uninterrupted(splits: Any, tmp_path: Path, stop: int) -> None:
    out = tmp_path / "stopped"
    for folder in (tmp_path / "whole", out):
        folder.mkdir()
    whole = trained(splits, tmp_path / "whole")
    trained(splits, out, stop=stop)
    assert not (out / WEIGHTS).exists()
    again = trained(splits, out)
    assert equal(state(again), state(whole))
    assert (out / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    # A finished training is taken up, not made again.
    taken = Supernet(spec(3), 7, splits[0])
    assert [e.epoch for e in taken.train(out, lambda _: pytest.fail("trained again"))] == [1, 2, 3]
    assert equal(state(taken), state(whole))


def test_another_training_is_refused(splits: Any, tmp_path: Path) -> None:
    trained(splits, tmp_path, stop=1)
    with pytest.raises(RunError) as caught:
        Supernet(spec(3), 8, splits[0]).train(tmp_path, lambda _: None)
    assert caught.value.code == "E085"
    quiet = NetworkSpec(**(dict(spec(3).__dict__) | {"feedback": Projection(gain=0.1)}))
    with pytest.raises(RunError) as caught:
        Supernet(quiet, 7, splits[0]).train(tmp_path, lambda _: None)
    assert caught.value.code == "E085"
    (tmp_path / STATE).write_bytes(b"torn")
    with pytest.raises(bcgraph.BcgraphError) as damaged:
        Supernet(spec(3), 7, splits[0]).train(tmp_path, lambda _: None)
    assert damaged.value.code == "E082"


def test_one_shot_accuracy_is_that_of_the_inherited_weights(
    splits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supernet = trained(splits, tmp_path)
    before = state(supernet)
    candidates = [spec().with_backward(b) for b in ([], [(4, 0), (2, 2)], [(3, 1)])]
    found = [e.accuracy for e in OneShot(supernet, splits[1])(candidates)]
    monkeypatch.setattr(one_shot, "MEMORY", 0)  # as for data that do not fit into memory
    again = [e.accuracy for e in OneShot(supernet, splits[1])(candidates[::-1])][::-1]
    assert found == again
    assert equal(state(supernet), before)
    for candidate, accuracy in zip(candidates, found, strict=True):
        model = bcgraph.compile(candidate)
        weights.apply(model, inherited(tmp_path, supernet.spec, supernet.seed, candidate))
        assert evaluate(model, splits[1]) == accuracy


def test_candidates_together_or_alone_in_any_batches(
    splits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supernet = trained(splits, tmp_path)
    many = [spec().with_backward(b) for b in ([(4, 4)], [(4, 0), (2, 2)], [], [(3, 1)])]
    together = list(OneShot(supernet, splits[1])(many))
    assert [next(OneShot(supernet, splits[1])([c])) for c in many] == together
    monkeypatch.setattr(one_shot, "PREFIX_MEMORY", 40_000)
    shot = OneShot(supernet, splits[1])
    assert list(shot(many)) == together
    assert max(len(x) for batches in shot._held.values() for x, _ in batches) < len(splits[1])
    assert list(shot([])) == []


def test_a_candidate_that_fails_takes_no_other_with_it(
    splits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supernet = trained(splits, tmp_path)
    many = [spec().with_backward(b) for b in ([(4, 4)], [(4, 0), (2, 2)], [(3, 1)])]
    expected = list(OneShot(supernet, splits[1])(many))
    run = PrefixCache.run

    def failing(self: PrefixCache, candidate: Any) -> torch.Tensor:
        if any("backward.2_2" in name for name, _ in candidate.module.named_modules()):
            raise CompileError("E073", "this cannot be computed")
        return run(self, candidate)

    monkeypatch.setattr(PrefixCache, "run", failing)
    found = list(OneShot(supernet, splits[1])(many))
    assert (found[0], found[2]) == (expected[0], expected[2])
    assert dict(found[1].reasons)["accuracy"] == "failed: CompileError: error[E073]: this cannot be computed"
    for error in (MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:125] can't allocate memory"), OSError(5)):

        def ended(self: PrefixCache, candidate: Any, error: Exception = error) -> torch.Tensor:
            raise error

        monkeypatch.setattr(PrefixCache, "run", ended)
        with pytest.raises(type(error)):
            list(OneShot(supernet, splits[1])(many))


@pytest.mark.parametrize("statistics", ["shared", "per_step"])
def test_recalibration(splits: Any, tmp_path: Path, statistics: str) -> None:
    supernet = Supernet(spec(1, f"norm = bn(statistics={statistics})"), 7, splits[0])
    supernet.train(tmp_path, lambda _: None)
    before = state(supernet)
    candidate = supernet.spec.with_backward([(4, 1)])
    shot = OneShot(supernet, splits[1], recalibrate=3)
    first = next(shot([candidate])).accuracy
    assert equal(state(supernet), before)
    assert first == next(shot([candidate])).accuracy

    # What it uses are averages of the statistics that training mode sees: those of layer2.0.bn1 in each batch and step.
    model = supernet.model(((4, 1),))
    seen: list[torch.Tensor] = []
    norm = model.get_submodule("layer2.0.bn1")
    hook = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with kept_statistics(model):
        shot._recalibrate(model)
        mean, var = norm.running_mean.clone(), norm.running_var.clone()
    hook.remove()
    assert len(seen) == 3 * 2
    if statistics == "shared":
        weights_of = [0.1 * 0.9 ** (5 - i) for i in range(6)]
        groups = [(mean, var, list(zip(weights_of, seen, strict=True)))]
    else:
        weights_of = [0.1 * 0.9 ** (2 - i) for i in range(3)]
        groups = [(mean[t], var[t], list(zip(weights_of, seen[t::2], strict=True))) for t in range(2)]
    for found_mean, found_var, parts in groups:
        total = sum(w for w, _ in parts)
        want_mean = sum(w * x.mean([0, 2, 3]) for w, x in parts) / total
        want_var = sum(w * x.var([0, 2, 3], correction=1) for w, x in parts) / total
        torch.testing.assert_close(found_mean, want_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found_var, want_var, rtol=1e-4, atol=1e-5)
    assert equal(state(supernet), before)
