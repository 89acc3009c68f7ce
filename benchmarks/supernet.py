"""Validation accuracy of many candidates on a supernet, against each as its own compiled model."""

from __future__ import annotations

import random

import torch
from torch import Tensor

import bcgraph
from bcgraph import search
from bcgraph.data.split import Split
from bcgraph.schema import NetworkSpec
from bcgraph.search.oneshot import OneShot
from bcgraph.search.operators.space import architecture_of
from bcgraph.search.supernet import Supernet
from bcgraph.training.accuracy import evaluate
from benchmarks.harness import Row, best_of_each
from benchmarks.networks import images, resnet18, settle

CANDIDATES = 20
SAMPLES = 128
REPEATS = 2


class Validation:
    """Images without labels worth the name, as a `Split` hands them out."""

    def __init__(self, samples: int) -> None:
        self.x, self.y = images(samples), torch.arange(samples) % 10

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.x[indices], self.y[indices]

    def batches(self, size: int) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.x.split(size), self.y.split(size), strict=True))


def run() -> list[Row]:
    rng = random.Random(0)
    spec = resnet18()
    candidates = [search.sample(spec, rng) for _ in range(CANDIDATES)]
    validation: Split = Validation(SAMPLES)  # type: ignore[assignment]
    supernet = Supernet(spec, 0, validation)
    for candidate in candidates:
        settle(supernet.model(architecture_of(candidate)), images(8))
    shot = OneShot(supernet, validation)

    def alone(candidate: NetworkSpec, inference: bool) -> float:
        model = bcgraph.compile(candidate, inference=inference)
        model.load_state_dict(supernet.model(architecture_of(candidate)).state_dict())
        return evaluate(model.eval(), validation)

    found: dict[str, list[float | None]] = {}

    def each(name: str, inference: bool) -> None:
        found[name] = [alone(candidate, inference) for candidate in candidates]

    def together() -> None:
        found["ours"] = [e.accuracy for e in shot(candidates)]

    ours, plain, folded = best_of_each(
        together, lambda: each("plain", False), lambda: each("folded", True), repeats=REPEATS
    )
    assert found["ours"] == found["plain"], "the accuracies differ"
    rows = (("each compiled", plain, ">= 2 x"), ("each compiled for inference", folded, ""))
    what = f"{CANDIDATES} candidates, {SAMPLES} samples"
    return [
        Row(f"{what} / {name}", f"{ours:.1f} s", f"{other:.1f} s", f"{other / ours:.2f} x", goal)
        for name, other, goal in rows
    ]
