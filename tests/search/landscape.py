"""A made-up landscape to search in: fast, deterministic, without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bcgraph import schema
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.space.search_space import architecture_of
from tests.search.conftest import chain


def value(spec: NetworkSpec) -> float:
    """Best is 4->0 with 2->2; smooth in the ports."""
    want = [(2, 2), (4, 0)]
    have = architecture_of(spec)
    cost = sum(min((abs(s - a) + abs(t - b) for a, b in have), default=9) for s, t in want)
    return 10.0 - cost - 0.1 * len(have) + 0.001 * sum(s + 7 * t for s, t in have)


def evaluation(spec: NetworkSpec) -> Evaluation:
    if architecture_of(spec) == ((3, 3),):
        return Evaluation.failed(("n", "e", "accuracy"), "dead on purpose")
    found = value(spec)
    return Evaluation(n=found, e=math.sin(40 * found), accuracy=found / 10)


@dataclass
class Fake:
    """Evaluators that count, and may stop after so many evaluations as if the process were killed."""

    limit: int = 10**9
    asked: list[Any] = field(default_factory=list)
    judge: Callable[[NetworkSpec], Evaluation] = evaluation

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        for spec in specs:
            if len(self.asked) >= self.limit:
                raise KeyboardInterrupt
            self.asked.append(architecture_of(spec))
            yield self.judge(spec)

    def init(self) -> Fake:
        return self

    def evolve(self, progress: Any) -> Fake:
        return self


def spec(ports: int = 5, **search: Any) -> NetworkSpec:
    made = chain(ports)
    settings: dict[str, Any] = {
        "init": schema.InitSpec(pool=30, keep=6),
        "evolve": schema.EvolveSpec(iterations=5, top=4, population=8, offspring=3, mutation=0.7),
    } | search
    return NetworkSpec(**(dict(made.__dict__) | {"search": schema.SearchSpec(**settings)}))
