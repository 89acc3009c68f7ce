"""Scoring many candidates of one search, and auditing what comes out."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bcgraph
from bcgraph import data, keys, scores
from bcgraph.errors import CompileError, DataError, RunError, SearchError
from bcgraph.schema import NetworkSpec
from bcgraph.search import run
from bcgraph.search.driver import Options
from bcgraph.search.evaluators import Standard
from bcgraph.search.events import Event
from bcgraph.search.records.history import history
from bcgraph.search.scores.audit import _descriptors, audit
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.prefix_cache import PrefixModel
from bcgraph.search.supernet.shared_weights import SharedWeights

TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=3, classes=10) }
data = digits(batch=40)
search {
  init { pool = 6; keep = 3; batch = 24; scores = [%s] }
  evolve { score = n; iterations = 1; top = 3; population = 4; offspring = 1 }
}
"""


# What a machine, and not a candidate, fails by.
ENVIRONMENT = (
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:125] . DefaultCPUAllocator: can't allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("could not create a primitive"),
    OSError(5, "Input/output error"),
    RunError("E084", "cannot write"),
)


def spec(wanted: str = "n, e") -> NetworkSpec:
    return bcgraph.parse(TEXT % wanted)


def with_batch(text: str, size: int) -> NetworkSpec:
    return bcgraph.parse(re.sub(r"(init *{[^}]*batch = )\d+", rf"\g<1>{size}", text))


@pytest.fixture(scope="module")
def split() -> Any:
    found = spec()
    return data.load(found.data, found.input, found.steps).train


@pytest.fixture(scope="module")
def batch(split: Any) -> ScoringBatch:
    return ScoringBatch.draw(split, 24, 5)


def candidates() -> list[NetworkSpec]:
    return [spec().with_backward(b) for b in ([], [(4, 0)], [(2, 2), (4, 1)])]


def test_the_batch_is_balanced_and_keyed(split: Any) -> None:
    first, again, other = (ScoringBatch.draw(split, 24, key) for key in (5, 5, 6))
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)
    assert first.x.shape == (24, 1, 8, 8)
    assert sorted(torch.bincount(first.y).tolist()) == [2] * 6 + [3] * 4


def test_a_batch_too_small_for_all_classes_takes_pairs_of_some(split: Any) -> None:
    found = ScoringBatch.draw(split, 12, 5)
    assert sorted(torch.bincount(found.y, minlength=10).tolist()) == [0] * 4 + [2] * 6
    one_each = split.subset([int((split.labels == c).nonzero()[0]) for c in range(10)])
    assert sorted(torch.bincount(ScoringBatch.draw(one_each, 8, 5).y, minlength=10).tolist()) == [0] * 2 + [1] * 8


@pytest.mark.parametrize("size", [6, 12, 24])
def test_the_batch_does_not_depend_on_the_scores(size: int, tmp_path: Path) -> None:
    """Also where it is too small for all classes."""
    batches = []
    for wanted in ("n", "e", "n, e"):
        net = with_batch(bcgraph.format(spec(wanted)), size)
        assert net.search.init.batch == size
        batches.append(Standard(net, 3, tmp_path).init().batch)
    assert all(torch.equal(batches[0].x, other.x) and torch.equal(batches[0].y, other.y) for other in batches[1:])


def test_batches_that_cannot_be(split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SearchError) as caught:
        ScoringBatch.draw(split, 1, 0)
    assert caught.value.code == "E089"
    one_each = split.subset([int((split.labels == c).nonzero()[0]) for c in range(10)])
    singles = ScoringBatch.draw(one_each, 8, 0)
    with pytest.raises(SearchError, match="no class has two samples"):
        Scorer(singles, 3, ("n", "e"))
    assert next(iter(Scorer(singles, 3, ("n",))(candidates()))).n is not None
    take = type(split).take

    def broken(self: Any, indices: Any, key: Any = None) -> Any:
        x, y = take(self, indices, key)
        x[0, 0, 3, 3] = math.nan
        return x, y

    monkeypatch.setattr(type(split), "take", broken)
    with pytest.raises(DataError, match="not finite"):
        ScoringBatch.draw(split, 24, 0)


def test_more_than_a_hundred_classes_end_to_end(tmp_path: Path) -> None:
    """A search by the E-score over a folder of 103 classes: classes are compared with each other (paper eq. 15)."""
    noise = np.random.default_rng(0)
    for number in range(103):
        for part, samples in (("train", 4), ("test", 1)):
            folder = tmp_path / "data" / part / f"class{number:03}"
            folder.mkdir(parents=True)
            for sample in range(samples):
                Image.fromarray(noise.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{sample}.png")
    text = bcgraph.format(spec("e")).replace("classes=10", "classes=103")
    text = re.sub(r"data = .*", f'data = folder(root="{tmp_path / "data"}")', text)
    net = with_batch(text, 206)
    assert net.search.init.batch == 206
    scorer = Standard(net, 3, tmp_path).init()
    assert torch.bincount(scorer.batch.y).tolist() == [2] * 103
    (found,) = scorer([net])
    model = bcgraph.compile(net, seed=keys.derive(3, "init", "weights", 0), dtype=torch.float64)
    outputs = model.train()(x := scorer.batch.x.double().requires_grad_())
    (gradient,) = torch.autograd.grad(outputs.mean(0).sum(), x)
    rows = gradient.flatten(1)
    logs = []
    for label in range(103):
        pair = torch.corrcoef(rows[scorer.batch.y == label])
        logs.append(float(torch.log(pair.abs() + 1e-5).sum()) / 2)
    expected = sum(abs(a - b) for a in logs for b in logs) / 103
    assert found.e == pytest.approx(expected, rel=1e-3)


def test_shared_weights_are_those_of_a_fresh_network() -> None:
    shared = SharedWeights(11)
    for candidate in [*candidates(), *candidates()[::-1]]:
        fresh = bcgraph.compile(candidate, seed=11).state_dict()
        found = shared.candidate(candidate).state_dict()
        assert list(found) == list(fresh)
        assert all(torch.equal(found[name], fresh[name]) for name in fresh)
    assert "backward.4_0.conv.weight" in shared.state_dict()


def test_scores_are_those_of_fresh_networks_in_any_order(batch: ScoringBatch) -> None:
    scorer = Scorer(batch, 3, ("n", "e"), precision=PRECISIONS["float64"])
    found = list(scorer(candidates()))
    assert list(scorer(candidates()[::-1]))[::-1] == found
    for candidate, evaluation in zip(candidates(), found, strict=True):
        model = bcgraph.compile(candidate, dtype=torch.float64, seed=scorer.weights().seed)
        assert evaluation.n == pytest.approx(scores.n_score(model, batch.x.double()), abs=1e-9)
        assert evaluation.e == pytest.approx(scores.e_score(model, batch.x.double(), batch.y), rel=1e-9)
        assert evaluation.accuracy is None
    only = next(Scorer(batch, 3, ("n",), precision=PRECISIONS["float64"])(candidates()))
    assert (only.n, only.e) == (found[0].n, None)


def test_several_initializations_are_averaged(batch: ScoringBatch) -> None:
    (found,) = Scorer(batch, 3, ("n", "e"), inits=3)(candidates()[1:2])
    samples = dict(found.samples)
    assert found.n == pytest.approx(sum(samples["n"]) / 3)
    assert found.e == pytest.approx(sum(samples["e"]) / 3)
    assert len(set(samples["n"])) == 3
    (single,) = Scorer(batch, 3, ("n", "e"))(candidates()[1:2])
    assert single.n == samples["n"][0]
    with pytest.raises(SearchError):
        Scorer(batch, 3, ("n",), inits=0)


def test_a_candidate_that_fails_is_recorded(batch: ScoringBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = PrefixModel.suffix

    def failing(self: PrefixModel, candidate: Lowered) -> Any:
        if len(candidate.spec.backward) == 1:
            raise CompileError("E073", "this cannot be computed\ndetails")
        return inner(self, candidate)

    monkeypatch.setattr(PrefixModel, "suffix", failing)
    found = list(Scorer(batch, 3, ("n", "e"))(candidates()))
    assert [e.n == -math.inf for e in found] == [False, True, False]
    assert dict(found[1].reasons)["e"] == "failed: CompileError: error[E073]: this cannot be computed"


@pytest.mark.parametrize("error", ENVIRONMENT, ids=lambda e: type(e).__name__)
def test_a_failure_of_the_machine_is_no_evaluation(
    error: Exception, batch: ScoringBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = PrefixModel.suffix

    def failing(self: PrefixModel, candidate: Lowered) -> Any:
        if len(candidate.spec.backward) == 1:
            raise error
        return inner(self, candidate)

    monkeypatch.setattr(PrefixModel, "suffix", failing)
    results = Scorer(batch, 3, ("n", "e"))(candidates())
    next(results)
    with pytest.raises(type(error)):
        next(results)


def test_a_search_that_the_machine_ended_resumes_to_the_same_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spec(), tmp_path / "whole")
    inner = PrefixModel.suffix
    left = [5]

    def failing(self: PrefixModel, candidate: Lowered) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3 bytes")
        return inner(self, candidate)

    with monkeypatch.context() as patch:
        patch.setattr(PrefixModel, "suffix", failing)
        with pytest.raises(RuntimeError, match="can't allocate"):
            run(spec(), tmp_path / "ended")
    kept = history(tmp_path / "ended")["evaluations"]
    assert len(kept) == 5
    assert not any(e["reasons"] for e in kept)
    run(spec(), tmp_path / "ended")
    assert history(tmp_path / "ended")["evaluations"] == history(tmp_path / "whole")["evaluations"]


def test_a_search_by_scores_with_initializations(tmp_path: Path) -> None:
    result = run(spec(), tmp_path, options=Options(inits=2))
    found = history(tmp_path)
    assert all(len(e["samples"]["n"]) == 2 for e in found["evaluations"])
    assert any(note.startswith("N-score: Spearman between initializations") for note in found["notes"])
    assert run(spec(), tmp_path, options=Options(inits=2)).notes == result.notes
    assert result.chosen.evaluation.n == max(e["n"] for e in found["evaluations"] if e["stage"] == "evolve")


def test_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="float16"):
        Standard(spec(), 0, tmp_path, inits=1, score_dtype="float16")


def test_descriptors() -> None:
    found = _descriptors(candidates())
    assert found["first input port"] == [5, 0, 1]
    assert found["number of connections"] == [0, 1, 2]
    counts = [sum(p.numel() for p in bcgraph.compile(c).parameters()) for c in candidates()]
    assert found["parameters added"] == [c - counts[0] for c in counts]
    assert found["operations added"][1] == 6 * 3 * 8 * 8


def test_audit(split: Any) -> None:
    seen: list[Event] = []
    found = audit(spec(), split, seed=1, candidates=5, progress=seen.append)
    assert found.candidates == 5
    assert seen[-1] == Event("audit", 30, 30)
    lines = {(f.measure, f.what): f for f in found.findings}
    for measure in ("n", "e"):
        for what in ("another initialization", "another batch", "float64", "another layout"):
            assert lines[measure, what].kind == "reproducibility"
            assert -1 <= lines[measure, what].value <= 1
        assert -1 <= lines[measure, "first input port"].value <= 1
    assert lines["n", "float64"].value > 0.5
    assert ("n", "shuffled labels") not in lines
    assert lines["e", "Gaussian Jacobians, spread"].value > 0
    assert audit(spec(), split, seed=1, candidates=5) == found
    assert {f.measure for f in audit(spec("n"), split, seed=1, candidates=3).findings} == {"n"}
    with pytest.raises(SearchError):
        audit(spec(), split, candidates=2)
