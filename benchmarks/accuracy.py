"""Training the two data sets of digits, against a plain PyTorch script with the same network and budget.

Both sides draw their first weights and the order of their batches themselves, five times.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

import bcgraph
from bcgraph import data
from bcgraph.schema import AdamW, NetworkSpec, SequenceInput
from bcgraph.training import train
from benchmarks import plain
from benchmarks.harness import Row

SEEDS = 5
FILES = {"digits": "digits.bcg", "digits_rows": "tiny_digits_rows.bcg"}
SPECS = Path(__file__).resolve().parents[1] / "specs"


def ours(spec: NetworkSpec, seed: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return train(spec, out=folder, seed=seed).accuracy


def tensors(name: str, part: str) -> tuple[Tensor, Tensor]:
    arrays = data.arrays(name, part=part)
    return torch.from_numpy(arrays.inputs), torch.from_numpy(arrays.labels)


def model(spec: NetworkSpec) -> plain.Tiny:
    return plain.Tiny([(bc.source, bc.target) for bc in spec.backward], spec.steps)


def theirs(spec: NetworkSpec, seed: int) -> float:
    optimizer = spec.train.optimizer
    assert isinstance(optimizer, AdamW)
    torch.manual_seed(seed)
    return plain.train(
        model(spec),
        tensors(spec.data.name, "train"),
        tensors(spec.data.name, "test"),
        sequence=isinstance(spec.input, SequenceInput),
        last=spec.train.loss == "last",
        epochs=spec.train.epochs,
        batch=spec.data.batch,
        lr=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        seed=seed,
    )


def measure(name: str) -> list[Row]:
    """Both sides in turns, seed after seed."""
    spec = bcgraph.load(SPECS / FILES[name])
    accuracies: list[list[float]] = [[], []]
    seconds: list[list[float]] = [[], []]
    for seed in range(SEEDS):
        for side, run in enumerate((ours, theirs)):
            started = time.perf_counter()
            accuracies[side].append(run(spec, seed))
            seconds[side].append(time.perf_counter() - started)
    means = [statistics.mean(found) for found in accuracies]
    spreads = [statistics.stdev(found) for found in accuracies]
    error = (sum(spread**2 for spread in spreads) / SEEDS) ** 0.5
    mine, other = (f"{mean:.4f} ± {spread:.4f}" for mean, spread in zip(means, spreads, strict=True))
    times = [statistics.median(found) for found in seconds]
    epochs = f"{name}, {spec.train.epochs} epochs"
    return [
        Row(f"{epochs}, accuracy", mine, other, f"{means[0] - means[1]:+.4f}", f">= {-2 * error:.4f}"),
        Row(f"{epochs}, time", f"{times[0]:.1f} s", f"{times[1]:.1f} s", f"{times[0] / times[1]:.2f}", ""),
    ]


def run() -> list[Row]:
    """For an accuracy, the last columns are the difference, and two standard errors of it below zero."""
    return [row for name in FILES for row in measure(name)]
