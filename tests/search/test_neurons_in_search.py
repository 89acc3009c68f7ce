"""Neurons of other kinds in a search: whole numbers as spikes, and learned parameters in a supernet."""

from __future__ import annotations

import pytest
import torch

import bcgraph
from bcgraph.compiler.targets.fx.module import batch_statistics
from bcgraph.compiler.targets.fx.observer import spikes
from bcgraph.search.scores.standard.n import n_score_from_spikes
from bcgraph.search.supernet.shared_weights import SharedWeights

TEXT = """bcg 1
network net {{ input = image(1, 8, 8); steps = 3; neuron = {neuron}; backbone = tiny(width=8) }}
"""


def network(neuron: str) -> bcgraph.NetworkSpec:
    return bcgraph.parse(TEXT.format(neuron=neuron))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(12, 1, 8, 8, generator=generator, dtype=torch.float64), torch.arange(12) % 3


def test_whole_numbers_are_codes_of_whether_a_neuron_fires() -> None:
    spec = network("ilif()")
    x, _ = batch()
    model = bcgraph.compile(spec, dtype=torch.float64)
    with torch.no_grad(), batch_statistics(model):
        _, found = spikes(model, x)
    assert max(float(s.max()) for s in found.values()) > 1
    wanted = n_score_from_spikes([(s > 0).double() for s in found.values()])
    assert bcgraph.scores.n_score(model, x) == pytest.approx(wanted.value, rel=1e-12)


def test_a_supernet_holds_learned_parameters_once() -> None:
    spec = network("plif()")
    shared = SharedWeights(0)
    first, second = (shared.candidate(spec.with_backward(pairs)) for pairs in ((), ((4, 0),)))
    assert first.get_parameter("lif1.w") is second.get_parameter("lif1.w")
