"""Scoring candidates on from one trace, against a fresh model for each with a pass for each score.

The other side is what released scoring codes do: build the network (here of the peer's own layers), run it for the
N-score, run it again and back through all of it for the E-score. The arithmetic of the scores is the same for both.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bcgraph import search
from bcgraph.schema import NetworkSpec
from bcgraph.search import scores
from bcgraph.search.incremental import Incremental
from bcgraph.search.operators.space import architecture_of
from bcgraph.search.scorer import Scorer, ScoringBatch
from bcgraph.search.statistics import spearman
from bcgraph.search.trace import Tracer
from benchmarks.harness import Row
from benchmarks.networks import images, resnet18

BATCH = 64
CANDIDATES = 6
# Rank correlations need more of them.
RANKED = 16


@dataclass
class Spent:
    """Seconds of each call: on the wall, and of all cores."""

    wall: list[float]
    cpu: list[float]

    def text(self) -> str:
        return f"{statistics.mean(self.wall):.2f} s ({statistics.mean(self.cpu):.2f} cpu)"


def spent(functions: dict[str, Callable[[NetworkSpec], object]], candidates: list[NetworkSpec]) -> dict[str, Spent]:
    """Each function on each candidate, in turns, after one that does not count (it takes the traces)."""
    found = {name: Spent([], []) for name in functions}
    for index, candidate in enumerate([candidates[0], *candidates]):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function(candidate)
            if index:
                found[name].wall.append(time.perf_counter() - wall)
                found[name].cpu.append(time.process_time() - cpu)
    return found


def fresh(x: Tensor, y: Tensor, measures: str) -> Callable[[NetworkSpec], None]:
    """Scores a candidate as the released codes do."""
    from benchmarks.peer import Peer

    class Watched(Peer):
        """Keeps the spikes of each port and step."""

        def fire(self, node: torch.nn.Module, current: Tensor, spikes: list[Tensor], before: list[Tensor]) -> Tensor:
            self.kept.append(super().fire(node, current, spikes, before))
            return self.kept[-1]

    def run(candidate: NetworkSpec) -> None:
        peer = Watched(candidate.steps, architecture_of(candidate))
        if "n" in measures:
            peer.kept = []
            with torch.no_grad():
                peer(x)
            scores.n_score_from_spikes(peer.kept)
        if "e" in measures:
            peer.kept = []
            inputs = x.clone().requires_grad_()
            output = peer(inputs)
            output.mean(dim=0).sum().backward()
            assert inputs.grad is not None
            scores.e_score_from_jacobian(inputs.grad, y)

    return run


def engine(x: Tensor, y: Tensor, measures: tuple[str, ...], dtype: torch.dtype = torch.float32) -> Incremental:
    scorer = Scorer(ScoringBatch(x, y), 0, measures, dtype=dtype)  # type: ignore[arg-type]
    return Incremental(Tracer.of(scorer.weights(), resnet18()), x.to(dtype), y, measures)  # type: ignore[arg-type]


def correlation(x: Tensor, y: Tensor, candidates: list[NetworkSpec], dtype: torch.dtype) -> float:
    """Spearman of the N-score between a type and float64."""
    values = {}
    for kind in (dtype, torch.float64):
        score = engine(x, y, ("n",), kind)
        values[kind] = [score(candidate)["n"].value for candidate in candidates]
    return spearman(values[dtype], values[torch.float64])


def run() -> list[Row]:
    rng = random.Random(0)
    spec = resnet18()
    candidates = [search.sample(spec, rng) for _ in range(RANKED)]
    x, y = images(BATCH), torch.arange(BATCH) % 10
    found = spent(
        {
            "both": engine(x, y, ("n", "e")),
            "both16": engine(x, y, ("n", "e"), torch.bfloat16),
            "n": engine(x, y, ("n",)),
            "n16": engine(x, y, ("n",), torch.bfloat16),
            "fresh both": fresh(x, y, "ne"),
            "fresh n": fresh(x, y, "n"),
        },
        candidates[:CANDIDATES],
    )

    def row(what: str, ours: str, against: str, goal: str) -> Row:
        a, b = found[ours], found[against]
        wall, cpu = (sum(getattr(b, kind)) / sum(getattr(a, kind)) for kind in ("wall", "cpu"))
        return Row(what, a.text(), b.text(), f"{wall:.1f} x ({cpu:.1f} cpu)", goal)

    return [
        row("N and E, float32 / fresh model, separate passes", "both", "fresh both", ">= 5 x"),
        row("N and E, bfloat16 / the same", "both16", "fresh both", ""),
        row("N alone, float32 / the same", "n", "fresh n", ">= 3 x"),
        row("N alone, bfloat16 / the same", "n16", "fresh n", ">= 3 x"),
        Row(
            f"Spearman of N to float64, {RANKED} candidates",
            f"{correlation(x, y, candidates, torch.float32):.3f} (float32)",
            f"{correlation(x, y, candidates, torch.bfloat16):.3f} (bfloat16)",
            "",
            ">= 0.99",
        ),
    ]
