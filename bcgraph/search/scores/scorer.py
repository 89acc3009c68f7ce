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
from bcgraph.search.supernet.at_once import AtOnce, Finish, Start, joined, lowered_of
from bcgraph.search.supernet.lowered import Lowered, Lowering
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
    run. From that cache up to `at_once` candidates are scored in one pass, side by side along the batch axis, each with
    batch statistics of its own; in float64 their scores are the same, in float32 up to the last digits.
    """

    batch: ScoringBatch
    seed: int
    measures: tuple[Measure, ...]
    inits: int = 1
    precision: Precision = FLOAT32
    layout: torch.memory_format | None = None
    incremental: bool = True
    device: str = "cpu"
    at_once: int = 1

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise SearchError("E089", f"--candidates-at-once {self.at_once}: there must be at least one")
        if self.inits < 1:
            raise SearchError("E089", f"--inits {self.inits}: there must be at least one initialization")
        if int(torch.bincount(self.batch.y).max()) < 2:
            for each in declared(self.measures).values():
                if each.classes:
                    message = f"the {each.label} compares samples of one class, but no class has two samples"
                    raise SearchError("E089", message)

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each spec, in order and as soon as it is there."""
        yield from self._together(specs, self._several, self._one)

    def _one(self, spec: NetworkSpec) -> Evaluation:
        try:
            candidate = self._lowering(spec)(spec)
            return self._evaluate([run(candidate) for run in self._runs_for(spec)])
        except CANDIDATE_FAILURES as error:
            return Evaluation.failed(self.measures, reason_of(error))

    def _several(self, specs: Sequence[NetworkSpec]) -> Start[Evaluation]:
        """What starts the evaluation of several candidates, of which those that cannot be lowered fail alone."""
        lowered, failed = lowered_of(specs, self._lowering(specs[0]))
        none = {place: Evaluation.failed(self.measures, reason) for place, reason in failed.items()}
        candidates = list(lowered.values())
        runs = self._runs_for(candidates[0].spec) if candidates else []

        def evaluated(results: list[Sequence[dict[Measure, ScoreResult]]]) -> list[Evaluation]:
            found = none | dict(zip(lowered, map(self._evaluate, zip(*results, strict=True)), strict=True))
            return [found[place] for place in range(len(specs))]

        return joined([run.several(candidates) for run in runs], evaluated)

    def _lowering(self, spec: NetworkSpec) -> Lowering:
        if not self._lowerings:
            self._lowerings.append(Lowering(spec))
        return self._lowerings[0]

    @cached_property
    def _lowerings(self) -> list[Lowering]:
        """What lowers all candidates, which have the backbone of the first."""
        return []

    @cached_property
    def _together(self) -> AtOnce:
        return AtOnce(self.at_once)

    def _runs_for(self, spec: NetworkSpec) -> list[_AllScores]:
        if not self._held:
            self._held.extend(self._all_runs(spec))
        return self._held

    def weights(self, init: int = 0) -> SharedWeights:
        """The weights of one initialization. They ask for no gradients: scores look at the input's alone."""
        found = self._weights(init)
        found.freeze(self.precision.gradient, whole=self.precision.whole)
        return found

    def _weights(self, init: int) -> SharedWeights:
        key = keys.derive(self.seed, "init", "weights", init)
        return SharedWeights(key, dtype=self.precision.forward, device=self.device, layout=self.layout)

    @cached_property
    def _held(self) -> list[_AllScores]:
        """The runs of all initializations, built for the first candidate and shared by all with its backbone."""
        return []

    def _all_runs(self, spec: NetworkSpec) -> list[_AllScores]:
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
        return [_AllScores(each) for each in zip(*parts, strict=True)]

    def _runs(self, spec: NetworkSpec, scores: Mapping[Measure, Score], x: Tensor, y: Tensor) -> list[Run]:
        """The runs of the scores that share a forward pass."""
        weights = [self.weights(k) for k in range(self.inits)]
        if self.incremental:
            models = [PrefixModel.of(w, self._lowering(spec)) for w in weights]
            gradients = any(isinstance(each.measure, OfGradients) for each in scores.values())
            if sum(m.size(len(y), x.element_size(), gradients=gradients) for m in models) <= MEMORY:
                return [Incremental(model, x, y, scores, self.at_once) for model in models]

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


@dataclass(frozen=True, eq=False)
class _AllScores:
    """All scores from one initialization, each of `runs` with some of them."""

    runs: Sequence[Run]

    def __call__(self, candidate: Lowered) -> dict[Measure, ScoreResult]:
        return {measure: found for run in self.runs for measure, found in run(candidate).items()}

    def several(self, candidates: Sequence[Lowered]) -> Start[dict[Measure, ScoreResult]]:
        """What starts to compute those of several candidates: at once where a run can do so."""
        parts = [
            run.several(candidates) if isinstance(run, Incremental) else partial(_one_by_one, run, candidates)
            for run in self.runs
        ]
        return joined(parts, _merged)


def _merged(parts: list[Sequence[dict[Measure, ScoreResult]]]) -> list[dict[Measure, ScoreResult]]:
    return [{m: found for part in each for m, found in part.items()} for each in zip(*parts, strict=True)]


def _one_by_one(run: Run, candidates: Sequence[Lowered]) -> Finish[dict[Measure, ScoreResult]]:
    found = list(map(run, candidates))
    return lambda: found


def _of_connections(scores: Mapping[Measure, OfConnections], candidate: Lowered) -> dict[Measure, ScoreResult]:
    return {measure: result(measure, each.measure, candidate.spec) for measure, each in scores.items()}


def _dead(found: Sequence[dict[Measure, ScoreResult]], measure: Measure) -> bool:
    return any(f[measure].reason is not None for f in found)
