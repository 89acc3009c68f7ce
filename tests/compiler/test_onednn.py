"""Private calls of torch that may be gone tomorrow: without them the plain path runs, and says so once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import bcgraph
from bcgraph.errors import BcgraphWarning
from bcgraph.nn.conv import int16 as int16_conv
from bcgraph.nn.conv import linear, onednn
from bcgraph.nn.conv.input_gradient import computed_in
from bcgraph.nn.conv.int16 import Int16Weight

TEXT = """bcg 1
network n { input = image(3, 8, 8); steps = 2; backbone = tiny(width=64, classes=10); backward @4 -> @0 }
"""

CHECKS = (onednn.can_pack, onednn.can_multiply, onednn.bfloat16_is_fast, int16_conv.kernels_are_exact)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    for check in CHECKS:
        check.cache_clear()
    yield
    for check in CHECKS:
        check.cache_clear()


def _other_signature(*args: Any, **kwargs: Any) -> Any:
    raise TypeError("unexpected argument `settings`")


@pytest.fixture(params=["missing", "another signature"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "_reorder_convolution_weight",
        "_convolution_pointwise",
        "_linear_pointwise",
        "_is_mkldnn_bf16_supported",
        "qconv_prepack",
        "qconv2d_pointwise",
    )
    calls = {} if request.param == "missing" else dict.fromkeys(names, _other_signature)
    ops = SimpleNamespace(mkldnn=SimpleNamespace(**calls), onednn=SimpleNamespace(**calls), aten=torch.ops.aten)
    monkeypatch.setattr(onednn.torch, "ops", ops)


def outputs() -> tuple[torch.Tensor, list[str]]:
    """O of a wide network in inference, and the warnings of two calls."""
    model = bcgraph.compile(bcgraph.parse(TEXT), inference=True)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        model(x)
        output = model(x).clone()
    return output, [str(w.message) for w in caught if issubclass(w.category, BcgraphWarning)]


@pytest.mark.usefixtures("broken")
def test_inference_without_packed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    found, said = outputs()
    if torch.backends.mkldnn.is_available():
        assert len(said) == 1
        assert "the packing of convolution weights" in said[0]
        assert "plain path" in said[0]
    monkeypatch.undo()
    onednn.can_pack.cache_clear()
    expected, silent = outputs()
    assert not silent
    assert found.shape == expected.shape
    same = (found - expected).abs().amax((0, 2)) < 1e-3
    assert float(same.float().mean()) >= 0.75


@pytest.mark.usefixtures("broken")
def test_spikes_without_kernels_for_8_bits() -> None:
    g = torch.Generator().manual_seed(0)
    spikes, weight = (torch.rand(2, 8, 6, 6, generator=g) < 0.3).float(), torch.randn(4, 8, 3, 3, generator=g)
    settings: int16_conv.Settings = ((1, 1), (1, 1), (1, 1), 1)
    with pytest.warns(BcgraphWarning, match="convolution in 8 bits") as caught:
        found = [Int16Weight.of(weight, settings, (6, 6))(spikes) for _ in range(2)]
    assert len(caught) == 1
    plain = torch.nn.functional.conv2d(spikes, weight, padding=1)
    # `torch.testing` would import what asks for all of `torch.ops`.
    assert float((found[0] - plain).abs().max()) <= 1e-2
    assert torch.equal(found[0], found[1])


@pytest.mark.usefixtures("broken")
def test_bfloat16_without_the_check() -> None:
    with pytest.warns(BcgraphWarning, match="check for bfloat16"):
        assert computed_in(torch.zeros(1, dtype=torch.bfloat16)) == torch.float32


@pytest.mark.usefixtures("broken")
def test_a_product_falls_back_to_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "LARGE", 1)
    layer, x = linear.Linear(3, 2), torch.ones(4, 3)
    with pytest.warns(BcgraphWarning, match="the product of matrices of this version of torch"):
        found = layer(x)
    assert torch.allclose(found, torch.nn.functional.linear(x, layer.weight, layer.bias), rtol=1e-6)
