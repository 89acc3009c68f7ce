"""The gain of a connection: where its scale starts, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph.schema import BackwardConnection, NetworkSpec
from bcgraph.search.supernet.shared_weights import SharedWeights

SPEC = bcgraph.load("specs/tiny_digits_rows.bcg")
SCHEDULES = ("unrolled", "folded")


def quiet(gain: float) -> NetworkSpec:
    return SPEC.with_backward([BackwardConnection(4, 0, 1, gain), BackwardConnection(3, 3, 2, gain)])


def batch() -> Tensor:
    return torch.randn((8, 16, 1, 1, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("gain", [0.0, 0.1, 1.0, 2.5])
def test_the_scale_starts_there_and_all_else_is_the_same(gain: float) -> None:
    model = bcgraph.compile(quiet(gain), seed=3).state_dict()
    plain = bcgraph.compile(quiet(1.0), seed=3).state_dict()
    for name, value in model.items():
        scale = name in ("backward.4_0.bn.weight", "backward.3_3.bn.weight")
        assert torch.equal(value, torch.full_like(value, gain) if scale else plain[name]), name


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_zero_gain_is_no_connection_and_its_scale_learns(schedule: str) -> None:
    model = bcgraph.compile(quiet(0.0), schedule, dtype=torch.float64).train()
    none = bcgraph.compile(SPEC.with_backward(()), schedule, dtype=torch.float64).train()
    outputs = model(batch())
    assert torch.equal(outputs, none(batch()))
    outputs.square().mean().backward()
    for name in ("backward.4_0.bn.weight", "backward.3_3.bn.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert (gradient != 0).any()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    model(batch()).square().mean().backward()
    for name in ("backward.4_0.conv.weight", "backward.3_3.conv.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert (gradient != 0).any(), "once the scale has moved, the weights learn too"


def test_a_gain_for_all_reaches_every_connection_that_a_search_tries() -> None:
    text = bcgraph.format(SPEC).replace("backbone =", "feedback = project(gain=0.1)\n  backbone =")
    spec = bcgraph.parse(text)
    weights = SharedWeights(0)
    for pairs in ([(4, 0)], [(2, 1), (3, 3)]):
        weights.candidate(spec.with_backward(pairs))
    scales = {n: v for n, v in weights.state_dict().items() if n.endswith("bn.weight") and n.startswith("backward.")}
    assert len(scales) == 3
    assert all(torch.equal(value, torch.full_like(value, 0.1)) for value in scales.values())


def test_a_norm_of_the_backbone_has_a_gain_too() -> None:
    spec = bcgraph.parse(bcgraph.format(SPEC).replace("backbone =", "norm = bn(gain=0.5)\n  backbone ="))
    values = bcgraph.compile(spec).state_dict()
    assert torch.equal(values["bn1.weight"], torch.full_like(values["bn1.weight"], 0.5))
    # The projection says its own.
    assert torch.equal(values["backward.4_0.bn.weight"], torch.ones_like(values["backward.4_0.bn.weight"]))
