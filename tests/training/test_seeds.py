"""Train steps seed torch's generators as `torch.manual_seed` does, and none of devices that are not there."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from bcgraph.nn.determinism import seeded


@pytest.mark.parametrize("number", [0, 7, 2**63, 2**64 - 1])
def test_the_same_numbers_are_drawn(number: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        wanted = torch.rand(5)
        with seeded(number, torch.device("cpu")):
            assert torch.equal(torch.rand(5), wanted)


@pytest.mark.parametrize(("device", "called"), [("cpu", []), ("cuda", [3]), ("mps", [3])])
def test_the_device_is_seeded_too(device: str, called: list[int]) -> None:
    name = "torch.manual_seed" if device == "mps" else "torch.cuda.manual_seed_all"
    with torch.random.fork_rng(devices=[]), mock.patch(name) as found, seeded(3, torch.device(device)):
        pass
    assert [call.args for call in found.call_args_list] == [(number,) for number in called]
