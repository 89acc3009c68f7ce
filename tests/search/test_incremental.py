"""Scoring from a prefix cache: the same scores and spikes as the whole network, and less work."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import bcgraph
from bcgraph import keys
from bcgraph.compiler.targets.fx.observer import spikes
from bcgraph.plugins.values import OfGradients, Score
from bcgraph.schema import BackwardConnection, ForwardConnection, NetworkSpec, Projection
from bcgraph.search import sample
from bcgraph.search.scores import scorer
from bcgraph.search.scores.incremental import Incremental
from bcgraph.search.scores.networks import declared, jacobian
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.scores.scoring import scoring
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.prefix_cache import PrefixModel, suffix
from bcgraph.search.supernet.shared_weights import SharedWeights

NETWORKS = {
    "image": "input = image(1, 8, 8); steps = 3; backbone = tiny(width=4, classes=10)",
    "sequence": "input = sequence(1, 6, 6); steps = 4; readout = last; backbone = tiny(width=3, classes=5)",
    "soft reset": "input = image(2, 8, 8); steps = 3; neuron = lif(reset=soft); backbone = tiny(width=4, classes=10)",
    "two states": "input = image(1, 8, 8); steps = 3; neuron = alif(beta=0.5); backbone = tiny(width=4, classes=10)",
    "learned": "input = image(1, 8, 8); steps = 3; neuron = plif(); backbone = tiny(width=4, classes=10)",
    "whole numbers": "input = image(1, 8, 8); steps = 3; neuron = ilif(); backbone = tiny(width=4, classes=10)",
    "norm of each step": "input = image(1, 8, 8); steps = 3; norm = bn(statistics=per_step); "
    "backbone = tiny(width=4, classes=10)",
    "resnet18": "input = image(3, 16, 16); steps = 3; backbone = resnet18(width=4, classes=10)",
    "resnet19": "input = image(3, 8, 8); steps = 2; backbone = resnet19(width=4, classes=10)",
    "vggsnn": "input = sequence(2, 16, 16); steps = 3; backbone = vggsnn(width=4, classes=10)",
}
SAMPLES = 12


def network(name: str) -> NetworkSpec:
    return bcgraph.parse(f"bcg 1\nnetwork n {{ {NETWORKS[name]} }}")


def batch(spec: NetworkSpec) -> ScoringBatch:
    image = spec.input
    lead = (spec.steps, SAMPLES) if image.kind == "sequence" else (SAMPLES,)
    x = torch.randn((*lead, *image.shape), generator=torch.Generator().manual_seed(0))
    return ScoringBatch(x, torch.arange(SAMPLES) % 3)


def candidates(spec: NetworkSpec, count: int) -> list[NetworkSpec]:
    """None, a port to itself, the last to the first, a late one, one that never arrives, other kinds, random ones."""
    last = len(spec.ports) - 1
    fixed = [[], [(1, 1)], [(last, 0)], [(last, 1, 2), (2, 2)], [(2, 0, spec.steps)], [(last, last)]]
    rng = keys.rng(1, "candidates")
    membrane = next(name for name, _ in spec.neuron.equations.body if name != "s")
    others = [
        spec.with_connections([BackwardConnection(last, 0, 2, join="mul"), BackwardConnection(last, 0)]),
        spec.with_connections([], [ForwardConnection(0, last, 1, through=Projection(kernel=3))]),
        spec.with_connections([BackwardConnection(1, 1, read=membrane)], [ForwardConnection(0, 1, 0, join="mul")]),
    ]
    return [spec.with_backward(pairs) for pairs in fixed] + others + [sample(spec, rng) for _ in range(count)]


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_whole_network(name: str) -> None:
    spec = network(name)
    given, many = batch(spec), candidates(spec, 4)
    whole = list(Scorer(given, 3, ("n", "e"), precision=PRECISIONS["float64"], incremental=False)(many))
    found = list(Scorer(given, 3, ("n", "e"), precision=PRECISIONS["float64"])(many))
    assert any(math.isfinite(w.value("e")) for w in whole)
    for ours, theirs in zip(found, whole, strict=True):
        assert ours.n == theirs.n
        assert ours.e == pytest.approx(theirs.e, rel=1e-9)
        assert ours.reasons == theirs.reasons
    only = list(Scorer(given, 3, ("n",), precision=PRECISIONS["float64"])(many))
    assert [o.n for o in only] == [w.n for w in whole]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_the_whole_network(name: str) -> None:
    spec = network(name)
    given = batch(spec)
    weights = SharedWeights(2, dtype=torch.float64)
    weights.freeze()
    x = given.x.double()
    rows: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []

    def keep(rows: torch.Tensor, y: torch.Tensor) -> float:
        seen.append(rows)
        return 0.0

    kept = Score(OfGradients(keep), "kept")
    engine = Incremental(PrefixModel.of(weights, spec), x, given.y, {"e": kept})
    for candidate in candidates(spec, 2):
        model = weights.candidate(candidate)
        leaf = x.clone().requires_grad_()
        with scoring(model):
            rows.append(jacobian(model(leaf), leaf))
        engine(Lowered.of(candidate))
        torch.testing.assert_close(seen[-1], rows[-1], rtol=1e-9, atol=1e-12)
    assert any(bool(r.any()) for r in rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["image", "sequence", "resnet18"])
def test_spikes_do_not_depend_on_the_cache(name: str, dtype: torch.dtype) -> None:
    spec = network(name)
    weights = SharedWeights(2, dtype=dtype)
    weights.freeze()
    x = batch(spec).x.to(dtype)
    prefix = PrefixModel.of(weights, spec)
    with scoring(prefix.module), torch.no_grad():
        cache = prefix.cache(x)
    for candidate in candidates(spec, 4):
        model = weights.candidate(candidate)
        remains = prefix.suffix(Lowered.of(candidate))
        with scoring(model), torch.no_grad():
            output, whole = spikes(model, x)
            found, changed = remains.observe(x, [cache.values[name] for name in remains.reads])
        merged = {**cache.spikes, **changed}
        assert merged.keys() == whole.keys()
        assert all(torch.equal(merged[place], whole[place]) for place in whole)
        assert torch.equal(found, output)


def test_order_and_company_do_not_matter() -> None:
    spec = network("image")
    given, many = batch(spec), candidates(spec, 3)
    found = list(Scorer(given, 3, ("n", "e"))(many))
    back = list(Scorer(given, 3, ("n", "e"))(many[::-1]))[::-1]
    alone = [next(Scorer(given, 3, ("n", "e"))([c])) for c in many]
    assert found == back == alone


def test_only_what_a_connection_reaches_runs() -> None:
    spec = network("image").with_backward([(4, 3)])
    prefix = PrefixModel.of(SharedWeights(0), spec)
    remains = suffix(Lowered.of(spec).program, prefix.nodes, prefix.cached)
    assert all(n.step is None or n.step >= 1 for n in remains.nodes if n.op != "stack" and "backward" not in n.name)
    names = {n.name.split("@")[0] for n in remains.nodes}
    assert "layer1.0.conv1" not in names
    assert "layer2.0.conv1" not in names
    assert {"layer2.0.lif1", "layer2.0.conv2", "fc", "backward.4_3.conv"} <= names
    # Neither the shortcut nor the current of the first half: they are read from the cache.
    assert not any("downsample" in name for name in names)
    reads = {v.name for v in remains.inputs}
    assert "layer2.0.bn1@t1" in reads
    # A connection that never arrives leaves nothing to run.
    late = Lowered.of(network("image").with_backward([(4, 0, 3)]))
    never = suffix(late.program, prefix.nodes, prefix.cached)
    assert never.nodes == ()


def test_weights_keep_their_values_and_statistics() -> None:
    spec = network("image")
    weights = SharedWeights(2)
    weights.freeze()
    given = batch(spec)
    engine = Incremental(PrefixModel.of(weights, spec), given.x, given.y, declared(("n", "e")))
    engine(Lowered.of(spec.with_backward([(4, 0)])))
    before = {name: value.clone() for name, value in weights.state_dict().items()}
    engine(Lowered.of(spec.with_backward([(4, 0)])))
    after = weights.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None and not p.requires_grad for m in weights.modules.values() for p in m.parameters())


def test_a_cache_that_does_not_fit_is_not_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = network("image")
    given, many = batch(spec), candidates(spec, 2)
    expected = list(Scorer(given, 3, ("n",))(many))
    monkeypatch.setattr(scorer, "MEMORY", 1000)

    def never(*args: Any) -> None:
        pytest.fail("a cache was filled")

    monkeypatch.setattr(PrefixModel, "cache", never)
    assert list(Scorer(given, 3, ("n",))(many)) == expected


def test_one_layout_for_all_candidates() -> None:
    # This backbone runs faster in one layout with the connection than without it; the candidates' order must not show.
    spec = bcgraph.parse("bcg 1\nnetwork n { input = image(1, 8, 8); steps = 2; backbone = tiny(width=16) }")
    pairs = [[(4, 4), (4, 2)], []]
    orders: list[list[bool]] = []
    for order in (pairs, pairs[::-1]):
        weights = SharedWeights(0)
        for backward in order:
            weights.candidate(spec.with_backward(backward))
        found = weights.modules["layer2.0.conv2"].weight
        orders.append([found.is_contiguous(), found.is_contiguous(memory_format=torch.channels_last)])
    assert orders[0] == orders[1]
