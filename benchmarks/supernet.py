"""Validation accuracy of many candidates on a supernet, against each as its own compiled model."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import torch
from torch import Tensor

import bcgraph
from bcgraph import search
from bcgraph.data.split import Split
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.search_space import architecture_of
from bcgraph.search.supernet.one_shot import OneShot
from bcgraph.search.supernet.paths import Paths
from bcgraph.search.supernet.supernet import Supernet
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


def prepared(device: str = "cpu") -> tuple[Supernet, list[NetworkSpec]]:
    """A supernet on the images that it is evaluated on, and random architectures whose norms have settled in it."""
    rng = random.Random(0)
    spec = resnet18()
    candidates = [search.sample(spec, rng) for _ in range(CANDIDATES)]
    validation: Split = Validation(SAMPLES)  # type: ignore[assignment]
    supernet = Supernet(spec, 0, validation, device=device)
    for candidate in candidates:
        settle(supernet.model(architecture_of(candidate)), images(8).to(device))
    return supernet, candidates


def alone(supernet: Supernet, candidate: NetworkSpec, inference: bool = False) -> float:
    """The accuracy of a candidate as its own compiled model."""
    model = bcgraph.compile(candidate, inference=inference, device=supernet.device)
    model.load_state_dict(supernet.model(architecture_of(candidate)).state_dict())
    return evaluate(model.eval(), supernet.split)


def step(paths: Paths, supernet: Supernet, candidates: list[NetworkSpec], x: Tensor) -> Callable[[], None]:
    """A training step of the supernet on the next candidate at each call: forward, loss, backward, update."""
    following = itertools.cycle(candidates)
    y = torch.arange(len(x), device=x.device) % 10
    update = torch.optim.SGD(supernet.full.parameters(), lr=1e-3)

    def run() -> None:
        update.zero_grad(set_to_none=True)
        outputs = paths.run(next(following), x)
        torch.nn.functional.cross_entropy(outputs.flatten(0, 1), y.repeat(len(outputs))).backward()
        update.step()

    return run


def run() -> list[Row]:
    supernet, candidates = prepared()
    found: dict[str, list[float | None]] = {}

    def each(name: str, inference: bool) -> None:
        found[name] = [alone(supernet, candidate, inference) for candidate in candidates]

    def together(name: str, whole: bool, at_once: int = 1) -> None:
        shot = OneShot(supernet, supernet.split, whole=whole, at_once=at_once)
        found[name] = [e.accuracy for e in shot(candidates)]

    names = ("float32", "int16", "float32 in one pass")
    *ours, plain, folded = best_of_each(
        lambda: together(names[0], False),
        lambda: together(names[1], True),
        lambda: together(names[2], False, CANDIDATES),
        lambda: each("plain", False),
        lambda: each("folded", True),
        repeats=REPEATS,
    )
    rows: list[Row] = []
    for name, seconds in zip(names, ours, strict=True):
        what = f"{CANDIDATES} candidates, {SAMPLES} samples, {name}"
        for other, how, goal in (
            (plain, "each compiled", ">= 2 x" if name != names[2] else ""),
            (folded, "each compiled for inference", ""),
        ):
            ratio = f"{other / seconds:.2f} x"
            rows.append(Row(f"{what} / {how}", f"{seconds:.1f} s", f"{other:.1f} s", ratio, goal))
    # The weights are untrained, so a membrane within rounding of the threshold flips others behind it.
    for name in ("folded", *names):
        pairs = zip(found[name], found["plain"], strict=True)
        apart = sum(abs((a or 0.0) - (b or 0.0)) for a, b in pairs) / CANDIDATES
        rows.append(Row(f"mean difference of accuracies: {name} / each compiled", f"{apart:.4f}", "", "", ""))
    return rows
