"""Linear layers on many rows, which oneDNN multiplies: the numbers and gradients of torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bcgraph.nn.conv import linear, onednn

if not onednn.multiplies():
    pytest.skip("this torch has no product of oneDNN", allow_module_level=True)


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> linear.Linear:
    monkeypatch.setattr(linear, "LARGE", 1)
    torch.manual_seed(0)
    return linear.Linear(7, 5)


def test_values_and_gradients_are_those_of_torch(layer: linear.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    assert onednn.can_multiply(), "tried before calls are counted: a trial is a call as well"
    calls: list[int] = []
    product = onednn.multiply
    monkeypatch.setattr(onednn, "multiply", lambda x, *rest: (calls.append(len(x)), product(x, *rest))[1])
    x = torch.randn(11, 7, requires_grad=True)
    seen = torch.randn(11, 5)
    ours = torch.autograd.grad((layer(x) * seen).sum(), [x, layer.weight, layer.bias])
    exact = [v.detach().double().requires_grad_() for v in (x, layer.weight, layer.bias)]
    theirs = torch.autograd.grad((F.linear(*exact) * seen).sum(), exact)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), F.linear(*exact), rtol=1e-5, atol=1e-5)
    assert calls == [11, 11]


def test_gradients_can_be_differentiated(layer: linear.Linear) -> None:
    x = torch.randn(4, 7, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x).pow(2).sum(), x, create_graph=True)
    (found,) = torch.autograd.grad(first.sum(), layer.weight)
    weight = layer.weight.detach().requires_grad_()
    (first,) = torch.autograd.grad(F.linear(x, weight, layer.bias).pow(2).sum(), x, create_graph=True)
    (wanted,) = torch.autograd.grad(first.sum(), weight)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_transforms_other_types_and_autocast_take_torchs_own(
    layer: linear.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(onednn, "multiply", refuse)
    x = torch.randn(3, 7)
    assert torch.func.vmap(layer)(x[:, None]).shape == (3, 1, 5)
    assert layer.double()(x.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(x).dtype == torch.bfloat16
    monkeypatch.setattr(onednn, "enabled", lambda: False)
    layer(x)
    monkeypatch.undo()
    monkeypatch.setattr(linear, "LARGE", 1)
    monkeypatch.setattr(onednn, "multiply", refuse)
    with pytest.raises(AssertionError):
        layer(x)
