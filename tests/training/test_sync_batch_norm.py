"""Batch norms that share their statistics over processes compute in the precision of those that do not."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import nn

from bcgraph.nn.modules import BatchNorm, BatchNormPerStep
from bcgraph.training.distributed import sync_batch_norm

KINDS = {"shared": lambda: BatchNorm(3, 1e-5, 0.1), "per_step": lambda: BatchNormPerStep(3, 2, 1e-5, 0.1)}


def normed(kind: str, *, shared: bool) -> nn.Module:
    norm = KINDS[kind]().train()
    with torch.no_grad():
        for name, value in (*norm.named_parameters(), *norm.named_buffers()):
            value.fill_(1 if name in ("weight", "running_var") else 0)
    if shared:
        sync_batch_norm.synchronize(norm)
    return norm


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_one_process_has_the_statistics_of_a_plain_norm(kind: str, dtype: torch.dtype) -> None:
    """76,800 values a channel, whose number and sum float16 cannot hold, nor bfloat16 to three digits."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(300, 3, 16, 16, generator=generator, dtype=torch.float64) * 3 + 5).to(dtype)
    step = (0,) if kind == "per_step" else ()
    plain, ours = (normed(kind, shared=shared) for shared in (False, True))
    if dtype == torch.float64:
        plain.double(), ours.double()
    given = [x.clone().requires_grad_() for _ in range(2)]
    wanted = plain(given[0], *step)
    with mock.patch.object(sync_batch_norm.dist, "all_reduce") as exchanged:
        found = ours(given[1], *step)
        assert found.dtype == wanted.dtype == dtype
        for y in (wanted, found):
            y.backward(x)
    assert {call.args[0].dtype for call in exchanged.call_args_list} == {torch.promote_types(dtype, torch.float32)}
    close = {torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float32: 1e-4, torch.float64: 1e-9}[dtype]
    torch.testing.assert_close(found, wanted, rtol=close, atol=close)
    torch.testing.assert_close(given[1].grad, given[0].grad, rtol=close, atol=close)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
