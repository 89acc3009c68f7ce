"""Scoring many candidates: one batch and one initialization for all of them, and a reason for each that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

import torch
from torch import Tensor

from bcgraph import keys
from bcgraph.data.split import Split
from bcgraph.errors import DataError, SearchError
from bcgraph.plugins.values import OfConnections, OfGradients, OfSpikes, Score
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Evaluation, Measure
from bcgraph.search.records.failures import CANDIDATE_FAILURES, reason_of
from bcgraph.search.scores.incremental import Incremental
from bcgraph.search.scores.networks import declared, result, results
from bcgraph.search.scores.precision import FLOAT32, Precision
from bcgraph.search.scores.registered import Registered
from bcgraph.search.scores.result import ScoreResult
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.prefix_cache import PrefixModel
from bcgraph.search.supernet.shared_weights import SharedWeights

Run: TypeAlias = Callable[[Lowered], dict[Measure, ScoreResult]]
"""Scores a candidate from one initialization."""

MEMORY = 2**33
"""Bytes that the prefix caches of the batch may take; beyond, every candidate runs from its first step on."""


@dataclass(frozen=True, eq=False)
class ScoringBatch:
    """The one class-balanced batch of a search: x as the network takes it, labels y `[N]`."""

    x: Tensor
    y: Tensor

    @staticmethod
    def draw(split: Split, size: int, key: int) -> ScoringBatch:
        """A batch of `size` from `split`, drawn by `key`, with class counts that differ by at most one.

        It is the same whichever scores are computed on it. The E-score compares samples of one class, so each class
        that is there has at least two samples, and perhaps not all classes are there; only where no class has two
        samples is there one of each. Raises DataError (E081) for values that are not finite, SearchError (E089) for
        fewer than two samples.
        """
        if size < 2:
            raise SearchError("E089", f"init.batch = {size}, but scores compare samples and need at least two")
        labels = split.labels
        counts = torch.bincount(labels, minlength=len(split.classes)).tolist()
        most = max(counts)
        least = 2 if most > 1 else 1
        usable = [c for c, n in enumerate(counts) if n >= least]
        if size < least * len(usable):
            usable = sorted(keys.rng(key, "classes").sample(usable, size // least))
        chosen = torch.isin(labels, torch.tensor(usable)).nonzero().flatten()
        x, y = split.subset(chosen.numpy()).balanced(min(size, len(chosen)), key)
        if not bool(torch.isfinite(x).all()):
            raise DataError("E081", "the batch for the scores holds values that are not finite")
        return ScoringBatch(x, y)


@dataclass(frozen=True, eq=False)
class Scorer:
    """Evaluates candidates by training-free scores on one batch, each from `inits` initializations.

    With several initializations a score is their mean. `precision` is what the networks compute in, `layout` their
    memory format (default: the faster one); the scores' own arithmetic is in float64 anyway. With `incremental`,
    candidates start from the prefix cache of the batch, unless that needs more than `MEMORY`. `device` is where they
    run.
    """

    batch: ScoringBatch
    seed: int
    measures: tuple[Measure, ...]
    inits: int = 1
    precision: Precision = FLOAT32
    layout: torch.memory_format | None = None
    incremental: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.inits < 1:
            raise SearchError("E089", f"--inits {self.inits}: there must be at least one initialization")
        if int(torch.bincount(self.batch.y).max()) < 2:
            for each in declared(self.measures).values():
                if each.classes:
                    message = f"the {each.label} compares samples of one class, but no class has two samples"
                    raise SearchError("E089", message)

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each spec, in order and as soon as it is there."""
        for spec in specs:
            try:
                if not self._held:
                    self._held.extend(self._all_runs(spec))
                candidate = Lowered.of(spec)
                yield self._evaluate([run(candidate) for run in self._held])
            except CANDIDATE_FAILURES as error:
                yield Evaluation.failed(self.measures, reason_of(error))

    def weights(self, init: int = 0) -> SharedWeights:
        """The weights of one initialization. They ask for no gradients: scores look at the input's alone."""
        found = self._weights(init)
        found.freeze(self.precision.gradient, whole=self.precision.whole)
        return found

    def _weights(self, init: int) -> SharedWeights:
        key = keys.derive(self.seed, "init", "weights", init)
        return SharedWeights(key, dtype=self.precision.forward, device=self.device, layout=self.layout)

    @cached_property
    def _held(self) -> list[Run]:
        """The runs of all initializations, built for the first candidate and shared by all with its backbone."""
        return []

    def _all_runs(self, spec: NetworkSpec) -> list[Run]:
        """The run of each initialization."""
        every = declared(self.measures, spec.uses)
        shared = {m: each for m, each in every.items() if isinstance(each.measure, OfSpikes | OfGradients)}
        free = {m: each.measure for m, each in every.items() if isinstance(each.measure, OfConnections)}
        alone = tuple(m for m in every if m not in shared and m not in free)
        x, y = self._placed(self.batch.x.to(self.device, self.precision.forward)), self.batch.y.to(self.device)
        parts = [self._runs(spec, shared, x, y)] if shared else []
        if alone:
            # Such a score may ask for gradients of the weights, so it has weights of its own, with the same values.
            parts.append([Registered(self._weights(k), x, y, alone, spec.uses) for k in range(self.inits)])
        if free:
            parts.append([partial(_of_connections, free)] * self.inits)
        return [partial(_merged, each) for each in zip(*parts, strict=True)]

    def _runs(self, spec: NetworkSpec, scores: Mapping[Measure, Score], x: Tensor, y: Tensor) -> list[Run]:
        """The runs of the scores that share a forward pass."""
        weights = [self.weights(k) for k in range(self.inits)]
        if self.incremental:
            models = [PrefixModel.of(w, spec) for w in weights]
            gradients = any(isinstance(each.measure, OfGradients) for each in scores.values())
            if sum(m.size(len(y), x.element_size(), gradients=gradients) for m in models) <= MEMORY:
                return [Incremental(model, x, y, scores) for model in models]

        def plain(weights: SharedWeights, candidate: Lowered) -> dict[Measure, ScoreResult]:
            return results(weights.compiled(candidate), x, y, scores)

        return [partial(plain, w) for w in weights]

    def _placed(self, x: Tensor) -> Tensor:
        if self.layout is None or x.dim() < 4:
            return x
        if x.dim() == 5:
            return torch.stack([frame.contiguous(memory_format=self.layout) for frame in x])
        return x.contiguous(memory_format=self.layout)

    def _evaluate(self, found: Sequence[dict[Measure, ScoreResult]]) -> Evaluation:
        means = {m: sum(f[m].value for f in found) / len(found) for m in self.measures}
        reasons = [(m, next(r for f in found if (r := f[m].reason))) for m in self.measures if _dead(found, m)]
        samples = tuple((m, tuple(f[m].value for f in found)) for m in self.measures) if len(found) > 1 else ()
        return Evaluation.of(means, reasons=tuple(reasons), samples=samples)


def _merged(runs: Sequence[Run], candidate: Lowered) -> dict[Measure, ScoreResult]:
    """All scores of a candidate, each run with some of them."""
    return {measure: found for run in runs for measure, found in run(candidate).items()}


def _of_connections(scores: Mapping[Measure, OfConnections], candidate: Lowered) -> dict[Measure, ScoreResult]:
    return {measure: result(measure, each.measure, candidate.spec) for measure, each in scores.items()}


def _dead(found: Sequence[dict[Measure, ScoreResult]], measure: Measure) -> bool:
    return any(f[measure].reason is not None for f in found)
