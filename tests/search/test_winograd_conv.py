"""Convolutions by tiles, and what is scored with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import bcgraph
from bcgraph.nn.conv import winograd
from bcgraph.nn.conv.input_gradient import conv2d_frozen_weight
from bcgraph.nn.conv.int16 import Settings
from bcgraph.nn.conv.winograd import TiledWeight, pays
from bcgraph.nn.modules import BatchNorm
from bcgraph.schema import NetworkSpec
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.shared_weights import FoldedModules, SharedWeights

PLAIN: Settings = ((1, 1), (1, 1), (1, 1), 1)


def drawn(samples: int, inward: int, outward: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """x channels-last and a weight."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(samples, inward, height, width, generator=g).contiguous(memory_format=torch.channels_last)
    return x, torch.randn(outward, inward, 3, 3, generator=g) / (3 * inward**0.5)


def off(found: Tensor, exactly: Tensor) -> float:
    return float((found - exactly).norm() / exactly.norm())


@pytest.mark.parametrize("piece", [1, 300, 1 << 15])
@pytest.mark.parametrize("shape", [(5, 16, 24, 8, 8), (1, 24, 16, 4, 12), (7, 3, 5, 4, 4)])
def test_the_results_are_those_of_the_convolution(
    shape: tuple[int, int, int, int, int], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "_PIECE", piece)
    x, weight = drawn(*shape)
    bias = torch.randn(shape[2], generator=torch.Generator().manual_seed(1))
    tiled = TiledWeight(weight)
    for given in (None, bias):
        found = tiled(x, given)
        exactly = F.conv2d(x.double(), weight.double(), None if given is None else given.double(), padding=1)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert off(found, exactly) < 1e-5
    outward = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    outward = outward.contiguous(memory_format=torch.channels_last)
    assert off(tiled.gradient(outward), F.conv_transpose2d(outward.double(), weight.double(), padding=1)) < 1e-5


def test_in_float64_it_is_exact_to_the_last_digits() -> None:
    x, weight = (v.double() for v in drawn(3, 8, 8, 8, 8))
    torch.testing.assert_close(TiledWeight(weight)(x, None), F.conv2d(x, weight, padding=1), rtol=1e-12, atol=1e-12)


def test_what_is_not_finite_stays_where_it_is() -> None:
    x, weight = drawn(2, 4, 4, 8, 8)
    x[1, 0, 0, 0] = float("nan")
    found = TiledWeight(weight)(x, None)
    assert not found[1].isfinite().all()
    assert found[0].isfinite().all()


def test_frozen_convolutions_and_their_gradients_go_by_tiles() -> None:
    x, weight = drawn(3, 16, 16, 8, 8)
    x.requires_grad_()
    tiled = TiledWeight(weight)
    y = conv2d_frozen_weight(x, weight, None, *PLAIN, tiled=tiled)
    outward = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).contiguous(
        memory_format=torch.channels_last
    )
    (to_x,) = torch.autograd.grad(y, x, outward)
    assert torch.equal(y, tiled(x, None))
    assert torch.equal(to_x, tiled.gradient(outward))
    with torch.no_grad():
        assert torch.equal(conv2d_frozen_weight(x, weight, None, *PLAIN, tiled=tiled), y)
    # Another layout in memory is another order of sums, but no other result.
    other = x.detach().contiguous()
    assert torch.equal(
        conv2d_frozen_weight(other, weight, None, *PLAIN, tiled=tiled), F.conv2d(other, weight, padding=1)
    )


def test_where_tiles_pay() -> None:
    wide = torch.empty(128, 128, 3, 3)
    assert pays(wide, (16, 16), PLAIN)
    assert pays(wide, (4, 8), PLAIN)
    for size in ((32, 32), (7, 8), (8, 6), (2, 2)):
        assert not pays(wide, size, PLAIN)
    assert not pays(torch.empty(128, 64, 3, 3), (8, 8), PLAIN)
    assert not pays(torch.empty(64, 128, 3, 3), (8, 8), PLAIN)
    assert not pays(torch.empty(128, 128, 1, 1), (8, 8), PLAIN)
    assert not pays(wide.double(), (8, 8), PLAIN)
    assert not pays(wide.to("meta"), (8, 8), PLAIN)
    settings: tuple[Settings, ...] = (
        ((2, 2), (1, 1), (1, 1), 1),
        ((1, 1), (0, 0), (1, 1), 1),
        ((1, 1), (2, 2), (2, 2), 1),
        ((1, 1), (1, 1), (1, 1), 2),
    )
    for other in settings:
        assert not pays(wide, (8, 8), other)


def candidates() -> list[NetworkSpec]:
    spec = bcgraph.parse(
        "bcg 1\nnetwork n { input = image(2, 8, 8); steps = 3; backbone = tiny(width=128, classes=4) }\n"
    )
    return [spec.with_backward(pairs) for pairs in ((), ((4, 0),), ((2, 2), (4, 1)), ((3, 3),))]


def batch() -> ScoringBatch:
    x = torch.randn(12, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    return ScoringBatch(x, torch.arange(4).repeat(3))


@pytest.mark.parametrize("kind", ["float32", "mixed"])
def test_scores_are_the_same_with_and_without_the_trace(kind: str) -> None:
    ours, plain = (Scorer(batch(), 0, ("n", "e"), precision=PRECISIONS[kind], incremental=how) for how in (True, False))
    for one, other in zip(ours(candidates()), plain(candidates()), strict=True):
        assert one.n == other.n
        assert one.value("e") == pytest.approx(other.value("e"), rel=0.02 if kind == "mixed" else 1e-4)


def test_evaluation_folds_norms_into_tiles() -> None:
    weights = SharedWeights(0, layout=torch.channels_last)
    spec = candidates()[1]
    plain = weights.root(spec)
    conv, norm = plain.get_submodule("layer2.0.conv2"), plain.get_submodule("layer2.0.bn2").eval()
    assert isinstance(norm, BatchNorm)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert value is not None
            value.uniform_(0.5, 1.5, generator=g)
        folded = FoldedModules(weights).assemble(Lowered.of(spec))
        x = torch.rand(3, 256, 4, 4, generator=g).contiguous(memory_format=torch.channels_last)
        found = folded.get_submodule("layer2.0.bn2")(folded.get_submodule("layer2.0.conv2")(x))
        expected = norm(conv(x))
    assert off(found, expected) < 1e-5
    assert not torch.equal(found, expected)


def test_scores_by_tiles_are_near_those_without(monkeypatch: pytest.MonkeyPatch) -> None:
    tiled = list(Scorer(batch(), 0, ("n", "e"), layout=torch.channels_last)(candidates()))
    monkeypatch.setattr("bcgraph.nn.modules.pays", lambda *_: False)
    plain = list(Scorer(batch(), 0, ("n", "e"), layout=torch.channels_last)(candidates()))
    exactly = list(Scorer(batch(), 0, ("n", "e"), precision=PRECISIONS["float64"])(candidates()))
    assert [e.e for e in tiled] != [e.e for e in plain]
    for one, reference in zip(tiled, exactly, strict=True):
        assert one.value("n") == pytest.approx(reference.value("n"), rel=1e-3)
