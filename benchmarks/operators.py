"""Operators must be cheap enough to be forgotten beside a score."""

from __future__ import annotations

import random
from collections.abc import Callable

import bcgraph
from bcgraph import search
from benchmarks.harness import Row, best

CALLS = 20_000


def run() -> list[Row]:
    spec = bcgraph.load("specs/resnet18_cifar10.bcg").with_backward([(16, 0), (8, 2)])
    rng = random.Random(0)
    operators: dict[str, Callable[[], object]] = {
        "sample": lambda: search.sample(spec, rng),
        "mutate": lambda: search.mutate(spec, rng),
        "mutate, always": lambda: search.mutate(spec, rng, probability=1.0),
        "crossover": lambda: search.crossover(spec, rng),
    }

    def many(operator: Callable[[], object]) -> None:
        for _ in range(CALLS):
            operator()

    rates = {name: CALLS / best(lambda o=operator: many(o), repeats=3) for name, operator in operators.items()}
    return [Row(name, f"{rate:,.0f} /s", "", "", ">= 20,000 /s") for name, rate in rates.items()]
