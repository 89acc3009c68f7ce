"""Input gradients of frozen convolutions, and the narrower types that scores may compute in."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import bcgraph
from bcgraph.errors import SearchError
from bcgraph.nn.conv import input_gradient as input_gradient_conv
from bcgraph.nn.conv.input_gradient import conv2d_frozen_weight
from bcgraph.search.scores.precision import FLOAT32, PRECISIONS, precision
from bcgraph.search.scores.scorer import Scorer, ScoringBatch


def batch(classes: int = 4, each: int = 5) -> ScoringBatch:
    x = torch.randn(classes * each, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    return ScoringBatch(x, torch.arange(classes).repeat(each))


def specs() -> list[bcgraph.NetworkSpec]:
    spec = bcgraph.parse(
        "bcg 1\nnetwork n { input = image(2, 8, 8); steps = 3; backbone = tiny(width=8, classes=4) }\n"
    )
    return [spec.with_backward(pairs) for pairs in ((), ((4, 0),), ((2, 2), (4, 1)), ((3, 3),))]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [(3, 1, 1, 1, 1), (3, 2, 1, 1, 2), (1, 2, 0, 1, 1), (3, 1, 2, 2, 1)],
)
def test_the_gradient_is_that_of_torch(
    kernel: int, stride: int, padding: int, dilation: int, groups: int, last: bool
) -> None:
    g = torch.Generator().manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(3, 4, 9, 7, generator=g, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(6, 4 // groups, kernel, kernel, generator=g, dtype=torch.float64)
    bias = torch.randn(6, generator=g, dtype=torch.float64)
    settings = ((stride, stride), (padding, padding), (dilation, dilation), groups)
    ours = conv2d_frozen_weight(x, weight, bias, *settings)
    theirs = F.conv2d(x, weight, bias, *settings)
    assert torch.equal(ours, theirs)
    outward = torch.randn(ours.shape, generator=g, dtype=torch.float64)
    (mine,), (other,) = (torch.autograd.grad(y, x, outward) for y in (ours, theirs))
    torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_a_narrow_gradient_is_one_of_float32_rounded() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 16, 8, 8, generator=g, requires_grad=True)
    weight = torch.randn(16, 16, 3, 3, generator=g)
    settings = ((1, 1), (1, 1), (1, 1), 1)
    narrow, whole = (conv2d_frozen_weight(x, weight, None, *settings, gradient=t) for t in (torch.bfloat16, None))
    assert torch.equal(narrow, whole)
    outward = torch.randn(whole.shape, generator=g)
    (mine,), (other,) = (torch.autograd.grad(y, x, outward) for y in (narrow, whole))
    assert mine.dtype == torch.float32
    assert not torch.equal(mine, other)
    # bfloat16 has 8 significant bits: each factor and the result are rounded by at most 2**-8 of themselves.
    assert float((mine - other).norm() / other.norm()) < 3 * 2**-8


def test_without_kernels_for_bfloat16_its_factors_and_results_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_gradient_conv, "computed_in", lambda _: torch.float32)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 16, 8, 8, generator=g).bfloat16()
    weight = torch.randn(16, 16, 3, 3, generator=g).bfloat16()
    outward = torch.randn(4, 16, 8, 8, generator=g).bfloat16()
    bias = torch.randn(16, generator=g).bfloat16()
    settings = ((1, 1), (1, 1), (1, 1), 1)
    ours = conv2d_frozen_weight(x.requires_grad_(), weight, bias, *settings)
    assert torch.equal(ours, F.conv2d(x.float(), weight.float(), bias.float(), padding=1).bfloat16())
    exactly = F.conv_transpose2d(outward.float(), weight.float(), padding=1)
    (mine,) = torch.autograd.grad(ours, x, outward)
    assert mine.dtype == torch.bfloat16
    torch.testing.assert_close(mine, exactly.bfloat16(), rtol=2**-7, atol=1e-4)

    # The same from float32: the weight is rounded on the way.
    wide, full = x.detach().float().requires_grad_(), weight.float() + 2.0**-12
    narrow = conv2d_frozen_weight(wide, full, None, *settings, gradient=torch.bfloat16)
    (mine,) = torch.autograd.grad(narrow, wide, outward.float())
    exactly = F.conv_transpose2d(outward.float(), full.bfloat16().float(), padding=1)
    torch.testing.assert_close(mine, exactly.bfloat16().float(), rtol=2**-7, atol=1e-4)


def test_mixed_has_the_n_score_of_float32_and_nearly_its_e_score() -> None:
    mixed, whole = (list(Scorer(batch(), 0, ("n", "e"), precision=p)(specs())) for p in (PRECISIONS["mixed"], FLOAT32))
    assert [e.n for e in mixed] == [e.n for e in whole]
    for ours, theirs in zip(mixed, whole, strict=True):
        assert ours.e != theirs.e
        assert ours.value("e") == pytest.approx(theirs.value("e"), rel=0.02)


def test_mixed_is_the_same_with_and_without_the_trace() -> None:
    scorer = Scorer(batch(), 0, ("n", "e"), precision=PRECISIONS["mixed"])
    plain = Scorer(batch(), 0, ("n", "e"), precision=PRECISIONS["mixed"], incremental=False)
    for ours, theirs in zip(scorer(specs()), plain(specs()), strict=True):
        assert ours.n == theirs.n
        assert ours.value("e") == pytest.approx(theirs.value("e"), rel=0.02)


def test_an_unknown_precision_is_named_with_the_nearest() -> None:
    with pytest.raises(SearchError) as caught:
        precision("bfloat1")
    assert caught.value.diagnostics[0].hint == "did you mean `bfloat16`?"
