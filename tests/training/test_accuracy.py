"""Accuracy on digits and their rows, against a plain script with the same budget, and weights and order of its own."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from bcgraph import data, dsl
from bcgraph.compiler import compile as compile_network
from bcgraph.schema import DataSpec, NetworkSpec, TrainSpec
from bcgraph.training import train
from benchmarks import accuracy
from tests.training import oracle
from tests.training.nets import plain

EPOCHS, BATCH, WIDTH = 3, 60, 16
SEEDS = (0, 1, 2)


@pytest.mark.parametrize("name", accuracy.FILES)
def test_the_plain_network_of_the_benchmark_is_the_same_network(name: str) -> None:
    spec = dsl.load(accuracy.SPECS / accuracy.FILES[name]).with_backward([(4, 0), (3, 3)])
    ours, theirs = compile_network(spec, dtype=torch.float64), accuracy.model(spec).double()
    parts = {"backward.4_0": "projections.0", "backward.3_3": "projections.1", ".conv.": ".0.", ".bn.": ".1."}

    def renamed(key: str) -> str:
        if key.startswith("backward."):
            for mine, other in parts.items():
                key = key.replace(mine, other)
        return key

    theirs.load_state_dict({renamed(key): value for key, value in ours.state_dict().items()})
    split = data.load(spec.data, spec.input, spec.steps).test
    x, y = split.take(range(40))
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        found, expected = ours(x.double()), theirs(x.double(), sequence=spec.input.kind == "sequence")
        assert (found - expected).abs().max() < 1e-9
        if mode:
            for outputs in (found, expected):
                F.cross_entropy(outputs.flatten(0, 1), y.repeat(len(outputs))).backward()
    gradients = {renamed(key): parameter.grad for key, parameter in ours.named_parameters()}
    for key, parameter in theirs.named_parameters():
        assert gradients[key] is not None
        assert (gradients[key] - parameter.grad).abs().max() <= 1e-6 * parameter.grad.abs().max(), key


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "digits_rows"])
def test_a_plain_script_does_no_better(name: str, tmp_path: Path) -> None:
    sequence = name == "digits_rows"
    settings = DataSpec(name=name, batch=BATCH)
    spec = plain(steps=3, width=WIDTH, sequence=sequence, data=settings).with_backward([(1, 0)])
    spec = NetworkSpec(**{**spec.__dict__, "train": TrainSpec(epochs=EPOCHS)})
    splits = data.load(spec.data, spec.input, spec.steps)
    x, y = splits.train.take(range(len(splits.train)))
    ours, theirs = [], []
    for seed in SEEDS:
        ours.append(train(spec, out=tmp_path / str(seed), seed=seed, splits=splits).accuracy)
        batches = oracle.shuffled(x, y, sequence=sequence, batch=BATCH, epochs=EPOCHS, seed=seed)
        total = EPOCHS * len(y) // BATCH
        state = oracle.train(oracle.initial(WIDTH, seed), batches, total=total, steps=spec.steps, sequence=sequence)
        test = splits.test.take(range(len(splits.test)))
        theirs.append(oracle.accuracy(state, *test, steps=spec.steps, sequence=sequence))
    print(f"{name}, accuracy after {EPOCHS} epochs: {ours}, plain script: {theirs}")
    # Both have learned; on the rows, of which most steps see little, the mean output takes longer than this.
    assert min(*ours, *theirs) > 0.15
    # Three seeds each: twice the standard error of the difference of their means, as measured in this run.
    error = ((statistics.variance(ours) + statistics.variance(theirs)) / len(SEEDS)) ** 0.5
    assert statistics.mean(ours) > statistics.mean(theirs) - 2 * error - 0.01
