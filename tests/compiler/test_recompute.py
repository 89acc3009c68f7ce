"""Recomputation changes nothing but what is kept between the forward and the backward pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph.compiler.targets.fx.observer import spikes
from bcgraph.errors import CompileError

TEXT = """bcg 1
network small {{
  input    = {feed}(1, 6, 6)
  steps    = {steps}
  backbone = tiny(width=4, classes=3)

  backward @4 -> @0 {{ delay = {delay} }}
  backward @2 -> @2
}}
"""


def build(feed: str = "image", steps: int = 5, delay: int = 1, **options: Any) -> Any:
    spec = bcgraph.parse(TEXT.format(feed=feed, steps=steps, delay=delay))
    return bcgraph.compile(spec, dtype=torch.float64, **options)


def batch(feed: str, steps: int) -> Tensor:
    lead = (steps, 4) if feed == "sequence" else (4,)
    generator = torch.Generator().manual_seed(3)
    return torch.randn((*lead, 1, 6, 6), generator=generator, dtype=torch.float64) * 2.0


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("feed", ["image", "sequence"])
def test_the_same_numbers(feed: str, steps: int, delay: int) -> None:
    plain = build(feed, steps, delay)
    kept = copy.deepcopy(build(feed, steps, delay, recompute=True))
    assert list(plain.state_dict()) == list(kept.state_dict())
    outputs = []
    for module in (plain, kept):
        x = batch(feed, steps).requires_grad_()
        for _ in range(2):
            out = module(x)
            out.square().mean().backward()
        outputs.append((out, x.grad))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-9, rtol=0.0)
    for (name, a), b in zip(plain.named_parameters(), kept.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-9, rtol=1e-9, msg=name)
    for (name, a), b in zip(plain.named_buffers(), kept.buffers(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0.0, msg=name)
    assert float(outputs[0][1].abs().sum()) > 0


def held(module: Any, x: Tensor) -> int:
    """Bytes of the tensors that the backward pass holds, each storage once."""
    found: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = module(x)
    total = sum(found.values())
    out.sum().backward()
    return total


def test_less_is_kept() -> None:
    x = batch("image", 16)
    whole, parts = held(build(steps=16), x), held(build(steps=16, recompute=True), x)
    assert parts < 0.6 * whole


def test_what_cannot_recompute_says_so() -> None:
    for options in ({"schedule": "folded"}, {"schedule": "step"}, {"inference": True}):
        with pytest.raises(CompileError) as caught:
            build(recompute=True, **options)
        assert caught.value.code == "E072"
    with pytest.raises(CompileError):
        spikes(build(recompute=True), batch("image", 5))
