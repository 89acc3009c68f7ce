"""Measurements of a compiled network: divergence between dtypes, and memory by step and kind."""

from __future__ import annotations

import pytest
import torch

import bcgraph
from bcgraph.compiler.analysis.memory import kept
from bcgraph.compiler.analysis.precision import divergence
from tests.targets.test_onnx import inputs, lively, network


@pytest.mark.parametrize("sequence", [False, True])
def test_float64_agrees_and_bfloat16_does_nearly(sequence: bool) -> None:
    spec = network("tiny(width=4)", sequence=sequence).with_backward([(4, 0)])
    state, x = lively(spec), inputs(spec, 64)
    exact = divergence(spec, x, torch.float64, state_dict=state)
    assert exact.samples == 64
    assert exact.predictions <= 0.05
    assert exact.spikes < 1e-3
    coarse = divergence(spec, x, torch.bfloat16, state_dict=state)
    assert 0.0 < coarse.spikes < 0.2
    assert len(coarse.ports) == len(spec.ports)
    assert exact.spikes <= coarse.spikes


def test_agreement_sees_a_difference() -> None:
    spec = network("tiny(width=4)")
    state, x = lively(spec), inputs(spec, 16)
    same = divergence(spec, x, torch.float32, state_dict=state)
    assert same.spikes == 0.0
    assert same.predictions == 0.0


def test_each_step_keeps_two_floats_and_a_bit() -> None:
    spec = network("tiny(width=4)", steps=4)
    x = inputs(spec, 8)
    found = kept(bcgraph.compile(spec), x)
    neurons = 8 * (3 * 4 * 64 + 2 * 8 * 16)
    # Steps in the middle have a membrane before them and one after.
    assert found[1, "lif"] == 4 * neurons
    assert found[1, "lif"] == found[2, "lif"]
    # Spikes that a convolution reads, as bits: all but the last port's, which is averaged.
    read = 8 * (3 * 4 * 64 + 8 * 16)
    assert found[1, "Conv"] == read // 8
    # The input of every batch norm of the step: the stem's is hoisted, and two wide ones stand side by side.
    norms = 8 * (2 * 4 * 64 + 3 * 8 * 16)
    assert norms * 4 <= found[1, "BatchNorm"] < norms * 4 + 1000
    assert not any("relu" in kind for _, kind in found)


def test_plain_passes_keep_more() -> None:
    spec = network("tiny(width=4)", steps=4)
    x = inputs(spec, 8)
    ours = sum(kept(bcgraph.compile(spec), x).values())
    plain = sum(kept(bcgraph.compile(spec, optimize=["dce"]), x).values())
    assert ours < 0.6 * plain
