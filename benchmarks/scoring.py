"""Scoring candidates on from one trace, against a fresh model for each with a pass for each score.

The other side is what released scoring codes do: build the network (here of the peer's own layers), run it for the
N-score, run it again and back through all of it for the E-score. The arithmetic of the scores is the same for both.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from bcgraph import search
from bcgraph.nn.defaults import threads
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Measure
from bcgraph.search.scores.incremental import Incremental
from bcgraph.search.scores.networks import declared
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.rank_correlation import spearman
from bcgraph.search.scores.result import ScoreResult
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.scores.standard.e import e_score_from_jacobian
from bcgraph.search.scores.standard.n import n_score_from_spikes
from bcgraph.search.space.search_space import architecture_of
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.prefix_cache import PrefixModel
from benchmarks.harness import Row, pair, several
from benchmarks.networks import images, resnet18

BATCH = 64
RANKED: dict[Measure, int] = {"n": 40, "e": 16}
"""How many candidates a rank correlation is of. With 16 the N-score's was 0.98 to 1.00 by the choice of candidates."""

ONE_THREAD = "float32, one thread"

MEASURES: dict[str, tuple[Measure, ...]] = {"N and E": ("n", "e"), "N alone": ("n",)}

TOGETHER = 20
"""How many candidates are scored for the rows of several at once."""


def candidates() -> list[NetworkSpec]:
    """Random architectures, the same for both sides."""
    rng = random.Random(0)
    return [search.sample(resnet18(), rng) for _ in range(max(RANKED.values()))]


def fresh(x: Tensor, y: Tensor, measures: tuple[Measure, ...], **shape: Any) -> Callable[[NetworkSpec], None]:
    """Scores a candidate as the released codes do; `shape` is that of the peer."""
    from benchmarks.peer import Peer

    class Watched(Peer):
        """Keeps the spikes of each port and step."""

        def fire(self, node: torch.nn.Module, current: Tensor, spikes: list[Tensor], before: list[Tensor]) -> Tensor:
            self.kept.append(super().fire(node, current, spikes, before))
            return self.kept[-1]

    def run(candidate: NetworkSpec) -> None:
        with x.device:
            peer = Watched(candidate.steps, architecture_of(candidate), **shape)
        if "n" in measures:
            peer.kept = []
            with torch.no_grad():
                peer(x)
            n_score_from_spikes(peer.kept)
        if "e" in measures:
            peer.kept = []
            inputs = x.clone().requires_grad_()
            output = peer(inputs)
            output.mean(dim=0).sum().backward()
            assert inputs.grad is not None
            e_score_from_jacobian(inputs.grad, y)

    return run


def engine(
    x: Tensor, y: Tensor, measures: tuple[Measure, ...], precision: str
) -> Callable[[NetworkSpec], dict[Measure, ScoreResult]]:
    """Scores a candidate as a search does."""
    kind = PRECISIONS[precision]
    scorer = Scorer(ScoringBatch(x, y), 0, measures, precision=kind)
    score = Incremental(PrefixModel.of(scorer.weights(), resnet18()), x.to(kind.forward), y, declared(measures))
    return lambda candidate: score(Lowered.of(candidate))


def contender(name: str) -> Callable[[], object]:
    """Scores the next candidate at each call: `MEASURES, PRECISION` or `MEASURES, fresh`; `MEASURES, at once K` all."""
    asked, _, how = name.partition(", ")
    x, y = images(BATCH), torch.arange(BATCH) % 10
    measures = MEASURES[asked]
    if how.startswith("at once "):
        scorer = Scorer(ScoringBatch(x, y), 0, measures, at_once=int(how.removeprefix("at once ")))
        return lambda: list(scorer(candidates()[:TOGETHER]))
    score = fresh(x, y, measures) if how == "fresh" else engine(x, y, measures, how)
    return in_turn(score)


def in_turn(score: Callable[[NetworkSpec], object]) -> Callable[[], object]:
    """Scores the next candidate at each call."""
    following = itertools.cycle(candidates())
    return lambda: score(next(following))


@cache
def values(measure: Measure, precision: str) -> Sequence[float]:
    """The scores of the candidates; `precision` may be `ONE_THREAD`, the others use two."""
    kind, _, _ = precision.partition(",")
    with threads(1 if precision == ONE_THREAD else torch.get_num_threads()):
        score = engine(images(BATCH), torch.arange(BATCH) % 10, (measure,), kind)
        return [score(candidate)[measure].value for candidate in candidates()[: RANKED[measure]]]


def correlations(measure: Measure, to: str, others: tuple[str, ...]) -> list[Row]:
    """Spearman's correlation of a score between one precision and others."""
    found = {other: spearman(values(measure, to), values(measure, other)) for other in others}
    what = f"Spearman of {measure.upper()} to {to}, {RANKED[measure]} candidates"
    goal = ">= 0.99" if (measure, to) == ("n", "float64") else ""
    return [Row(f"{what}: {other}", f"{value:.3f}", "", "", goal) for other, value in found.items()]


def speed(asked: str, precision: str, goal: str) -> Row:
    """Seconds a candidate, both sides in turns on the same candidates."""
    mine, theirs = pair("scoring", f"{asked}, {precision}", f"{asked}, fresh")
    what = f"{asked}, {precision} / fresh model, separate passes"
    return Row(what, f"{mine:.2f} s", f"{theirs:.2f} s", f"{theirs / mine:.1f} x", goal)


def at_once(asked: str, *numbers: int) -> list[Row]:
    """Seconds for candidates in passes of several side by side, against one by one."""
    alone, *found = several("scoring", *(f"{asked}, at once {k}" for k in (1, *numbers)))
    what = f"{asked}, {TOGETHER} candidates, float32"
    return [
        Row(f"{what}: {k} at once / one by one", f"{mine:.1f} s", f"{alone:.1f} s", f"{alone / mine:.2f} x", "")
        for k, mine in zip(numbers, found, strict=True)
    ]


ROWS: tuple[Callable[[], list[Row]], ...] = (
    lambda: [speed("N and E", "float32", ">= 5 x")],
    lambda: [speed("N and E", "mixed", ">= 5 x")],
    lambda: [speed("N and E", "int16", ">= 5 x")],
    lambda: [speed("N alone", "float32", ">= 3 x")],
    lambda: [speed("N alone", "int16", ">= 3 x")],
    lambda: [speed("N alone", "bfloat16", ">= 3 x")],
    partial(at_once, "N and E", 5, TOGETHER),
    partial(at_once, "N alone", 5, TOGETHER),
    partial(correlations, "n", "float64", ("float32", ONE_THREAD, "int16", "bfloat16")),
    partial(correlations, "n", "float32", (ONE_THREAD,)),
    partial(correlations, "e", "float64", ("float32", "mixed", "int16", "bfloat16")),
    partial(correlations, "e", "float32", ("mixed",)),
)


def run() -> list[Row]:
    return [row for rows in ROWS for row in rows()]
