"""The scores against straightforward implementations of their equations, and every way to be dead."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bcgraph import scores
from bcgraph.errors import SearchError
from bcgraph.search.scores.standard.e import e_score_from_jacobian
from bcgraph.search.scores.standard.n import n_score_from_spikes
from tests.equivalence import support
from tests.reference import Reference


def naive_n(codes: list[Tensor]) -> float:
    """Appendix A, pair by pair."""
    count = len(codes[0])
    kernel = np.zeros((count, count))
    for tensor in codes:
        layer = tensor.detach().double().flatten(1).numpy()
        neurons = layer.shape[1]
        for i in range(count):
            for j in range(count):
                hamming = float(np.sum(layer[i] != layer[j]))
                ri, rj = layer[i].mean(), layer[j].mean()
                scale = neurons * (ri * (1 - rj) + (1 - ri) * rj)
                kernel[i, j] += neurons - (0.5 * hamming / scale if scale else 0.0)
    return float(np.linalg.slogdet(kernel)[1])


def naive_e(rows: np.ndarray, labels: list[int]) -> float:
    sums, counts = [], []
    for c in sorted(set(labels)):
        own = [row for row, label in zip(rows, labels, strict=True) if label == c]
        if len(own) < 2:
            continue
        total = 0.0
        for a in own:
            for b in own:
                da, db = a - a.mean(), b - b.mean()
                r = float(da @ db) / math.sqrt(float(da @ da) * float(db @ db))
                total += math.log(abs(r) + 1e-5)
        sums.append(total)
        counts.append(len(own))
    if len(sums) <= 100:
        return sum(abs(s) for s in sums)
    means = [s / n for s, n in zip(sums, counts, strict=True)]
    return sum(abs(a - b) for a in means for b in means) / len(means)


def random_codes(samples: int, shapes: list[tuple[int, ...]], seed: int = 0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    rates = torch.rand(len(shapes), samples, generator=g)
    return [
        (torch.rand(samples, *shape, generator=g) < rate.view(-1, *[1] * len(shape))).float()
        for shape, rate in zip(shapes, rates, strict=True)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_n_against_the_double_loop(seed: int) -> None:
    codes = random_codes(7, [(3, 4, 5), (11,), (2, 8, 8), (1, 3, 3)], seed)
    codes[1][2] = 0  # a sample that is silent in a layer, one that always fires, and two such in one layer
    codes[1][3] = 1
    codes[3][0] = codes[3][1] = 1
    found = n_score_from_spikes(codes)
    assert found.reason is None
    assert found.value == pytest.approx(naive_n(codes), abs=1e-9)


def test_n_does_not_depend_on_the_dtype_of_codes() -> None:
    codes = random_codes(8, [(4, 9, 9), (30,)])
    expected = n_score_from_spikes(codes)
    for dtype in (torch.float64, torch.bfloat16, torch.bool):
        assert n_score_from_spikes([c.to(dtype) for c in codes]) == expected


def test_n_counts_exactly_in_large_layers() -> None:
    # 131,072 neurons, two samples that differ in one of them: float32 would lose the distance.
    codes = torch.zeros(3, 131_072)
    codes[:, ::2] = 1
    codes[1, 0], codes[2, 1] = 0, 1
    assert n_score_from_spikes([codes]).value == pytest.approx(naive_n([codes]), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: torch.zeros_like(c), "no neuron fires"),
        (lambda c: torch.ones_like(c), "singular"),
        (lambda c: torch.cat([c[:1], c[:1], c[2:]]), "singular"),
        (lambda c: c * float("nan"), "finite"),
    ],
)
def test_n_of_dead_networks(change, reason: str) -> None:
    found = n_score_from_spikes([change(c) for c in random_codes(5, [(4, 4, 4), (20,)])])
    assert found.value == -math.inf
    assert reason in (found.reason or "")


def test_n_needs_two_samples() -> None:
    with pytest.raises(SearchError) as caught:
        n_score_from_spikes(random_codes(1, [(5,)]))
    assert caught.value.code == "E089"


def random_rows(samples: int, width: int = 40, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(samples, width, generator=g, dtype=torch.float64) * 1e-3 + 0.7


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 0, 1, 2, 2, 2, 0],
        [5, 5, 9, 9, 9, 9],
        [0, 0, 1, 2],  # classes of one sample are left out
        [k // 2 for k in range(200)],  # exactly 100 classes
        [k // 2 for k in range(202)],  # 101: the classes are compared
        [k % 110 for k in range(400)] + [999],
    ],
)
def test_e_against_the_double_loop(labels: list[int]) -> None:
    rows = random_rows(len(labels))
    found = e_score_from_jacobian(rows, torch.tensor(labels))
    assert found.reason is None
    assert found.value == pytest.approx(naive_e(rows.numpy(), labels), rel=1e-9)


def test_e_in_float32_rows_is_computed_in_float64() -> None:
    rows = random_rows(12).float() * 1e-30  # squares of these are below what float32 holds
    labels = [0, 1, 2] * 4
    assert e_score_from_jacobian(rows, torch.tensor(labels)).value == pytest.approx(
        naive_e(rows.double().numpy() * 1e30, labels), rel=1e-9
    )


@pytest.mark.parametrize(
    ("value", "reason"), [(0.0, "zero"), (3.0, "same everywhere"), (math.nan, "finite"), (math.inf, "finite")]
)
def test_e_of_dead_networks(value: float, reason: str) -> None:
    rows = random_rows(6)
    rows[4] = value
    found = e_score_from_jacobian(rows, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert found.value == -math.inf
    assert reason in (found.reason or "")


def test_e_needs_a_class_of_two() -> None:
    with pytest.raises(SearchError) as caught:
        e_score_from_jacobian(random_rows(4), torch.tensor([0, 1, 2, 3]))
    assert caught.value.code == "E089"


# --- On networks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("backward", [(), ((2, 0), (1, 1)), ((3, 1, 2),)])
def test_scores_of_a_network(sequence: bool, backward: tuple) -> None:
    spec = support.small(sequence=sequence, backward=backward)
    values = support.state(spec)
    model = support.build(spec, "unrolled", values)
    x, y = support.batch(spec, 8), torch.tensor([0, 1, 2, 3] * 2)

    leaf = x.clone().requires_grad_()
    trace = Reference(spec, values)(leaf, training=True)
    trace.output.mean(0).sum().backward()
    rows = (leaf.grad.transpose(0, 1) if sequence else leaf.grad).flatten(1)

    with support.unchanged(model):
        n, e = scores.n_score(model, x), scores.e_score(model, x, y)
        both = scores.both_results(model, x, y)
    assert n == pytest.approx(naive_n(list(trace.spikes.values())), abs=1e-9)
    assert e == pytest.approx(naive_e(rows.numpy(), y.tolist()), rel=1e-9)
    assert (both.n.value, both.e.value) == (n, e)
    assert all(p.grad is None for p in model.parameters())
    assert all(module.training for module in model.modules())
    assert not x.requires_grad


def test_a_silent_network_is_dead_in_both_scores() -> None:
    spec = support.small()
    values = support.state(spec)
    values["bn1.bias"] = torch.full_like(values["bn1.bias"], -1e6)
    values["block.bn2.bias"] = torch.full_like(values["block.bn2.bias"], -1e6)
    model = support.build(spec, "unrolled", values)
    both = scores.both_results(model, support.batch(spec, 8), torch.tensor([0, 1] * 4))
    assert both.n.value == both.e.value == -math.inf
    assert both.n.reason
    assert both.e.reason


@pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.int64), torch.zeros(8), torch.zeros(8, 1).long()])
def test_labels_must_fit(labels: Tensor) -> None:
    spec = support.small()
    model = support.build(spec, "unrolled", support.state(spec))
    with pytest.raises(SearchError) as caught:
        scores.e_score(model, support.batch(spec, 8), labels)
    assert caught.value.code == "E090"
