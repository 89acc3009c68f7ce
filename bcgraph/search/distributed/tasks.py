"""The workloads of a search, and how an evaluation of many candidates is divided among workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bcgraph.data.split import Split
from bcgraph.schema import BackwardConnection, ForwardConnection, NetworkSpec
from bcgraph.search.distributed.chunks import Chunks, FixedTasks, divide
from bcgraph.search.distributed.pool import Pool
from bcgraph.search.distributed.worker import Work, Workload
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.scores.scorer import Scorer
from bcgraph.search.strategies.evolution import Evaluate
from bcgraph.search.supernet.one_shot import OneShot, Tally
from bcgraph.search.supernet.several import Mean, mean
from bcgraph.search.supernet.supernet import Supernet

Connections: TypeAlias = tuple[tuple[BackwardConnection, ...], tuple[ForwardConnection, ...]]
"""All that differs between candidates, and so all of a candidate that travels to a worker."""

# Parts of the validation data for each worker.
_PARTS = 4


@dataclass(frozen=True, eq=False)
class Scoring:
    """Scores candidates. The batch travels with the scorer; each worker draws the weights from their keys."""

    spec: NetworkSpec
    scorer: Scorer

    def start(self) -> Work:
        """A task is a tuple of `Connections`, a result the list of their evaluations."""
        return partial(_evaluated, self.spec, self.scorer)


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Evaluates candidates with the weights of a trained supernet; `training` is the data for recalibration."""

    spec: NetworkSpec
    seed: int
    schedule: str
    dtype: torch.dtype
    weights: Mapping[str, Tensor]
    validation: Split
    training: Split | None
    recalibrate: int
    whole: bool

    @staticmethod
    def of(shot: OneShot) -> Accuracy:
        """What workers need of an evaluator."""
        net = shot.supernet
        return Accuracy(
            net.spec,
            net.seed,
            net.schedule,
            net.dtype,
            {name: value.detach() for name, value in net.full.state_dict().items()},
            shot.validation.alone(),
            net.split.plain().alone() if shot.recalibrate else None,
            shot.recalibrate,
            shot.whole,
        )

    def start(self) -> Work:
        """A task is a tuple of `Connections`; without recalibration, that and a range of the validation samples."""
        training = self.validation if self.training is None else self.training
        supernet = Supernet(self.spec, self.seed, training, self.schedule, self.dtype)
        supernet.full.load_state_dict(self.weights)
        shot = OneShot(supernet, self.validation, self.recalibrate, self.whole)
        return partial(_evaluated if self.recalibrate else _tallied, self.spec, shot)


@dataclass(frozen=True, eq=False)
class Each:
    """Several workloads as one, such as the supernets of a search: a task is a number and a task of that workload."""

    workloads: tuple[Workload, ...]

    def start(self) -> Work:
        """A result is that of the workload which the task names."""
        return partial(_of_one, [workload.start() for workload in self.workloads])


def _of_one(works: Sequence[Work], task: tuple[int, Any]) -> Any:
    number, inner = task
    return works[number](inner)


def _evaluated(spec: NetworkSpec, evaluate: Evaluate, task: Sequence[Connections]) -> list[Evaluation]:
    return list(evaluate([spec.with_connections(*connections) for connections in task]))


def _tallied(spec: NetworkSpec, shot: OneShot, task: tuple[Sequence[Connections], range]) -> list[Tally]:
    candidates, samples = task
    part = replace(shot, validation=shot.validation.subset(samples))
    return part.tally([spec.with_connections(*connections) for connections in candidates])


@dataclass(eq=False)
class PooledEvaluator:
    """An evaluator whose work a pool of workers does. Its evaluations are bit-identical to those of `evaluate`.

    The pool is not started before there is something to evaluate.
    """

    evaluate: Evaluate
    spec: NetworkSpec
    pool: Callable[[Workload], Pool]
    _pool: Pool | None = None

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each spec, in order."""
        if not specs:
            return
        if self._pool is None:
            self._pool = self.pool(self._workload())
        parts = self.evaluate.parts if isinstance(self.evaluate, Mean) else (self.evaluate,)
        by_samples = all(isinstance(part, OneShot) and not part.recalibrate for part in parts)
        results = (self._by_samples if by_samples else self._by_candidates)(self._pool, parts, specs)
        if isinstance(self.evaluate, Mean):
            measures = self.evaluate.measures
            yield from (mean(found, measures) for found in zip(*results, strict=True))
        else:
            (found,) = results
            yield from found

    def _workload(self) -> Workload:
        if isinstance(self.evaluate, Mean):
            first, *others = [Accuracy.of(part) for part in self.evaluate.parts if isinstance(part, OneShot)]
            # The data travel once.
            same = [replace(other, validation=first.validation, training=first.training) for other in others]
            return Each((first, *same))
        if isinstance(self.evaluate, OneShot):
            return Accuracy.of(self.evaluate)
        assert isinstance(self.evaluate, Scorer)
        return Scoring(self.spec, self.evaluate)

    def _by_candidates(
        self, pool: Pool, parts: Sequence[Evaluate], specs: Sequence[NetworkSpec]
    ) -> Sequence[Iterator[Evaluation]]:
        """The evaluations by each part, which a worker does candidate by candidate."""
        items = [(spec.backward, spec.forward) for spec in specs]
        if len(parts) == 1:
            return [_flat(pool.run(Chunks(items, pool.workers)))]
        found = list(_flat(pool.run(FixedTasks([(k, [item]) for k in range(len(parts)) for item in items]))))
        return [iter(found[k * len(items) : (k + 1) * len(items)]) for k in range(len(parts))]

    def _by_samples(
        self, pool: Pool, parts: Sequence[Evaluate], specs: Sequence[NetworkSpec]
    ) -> Sequence[Iterator[Evaluation]]:
        """The accuracies on each supernet.

        Each worker takes all candidates and a part of the data, since they share the prefix cache of a batch. Where
        there are fewer batches than workers, the candidates are divided as well.
        """
        shots = [part for part in parts if isinstance(part, OneShot)]
        samples = len(shots[0].validation)
        cut = tiles(len(specs), samples, shots[0].batch(), pool.workers)
        tasks: list[Any] = [([(specs[i].backward, specs[i].forward) for i in group], part) for group, part in cut]
        if isinstance(self.evaluate, Mean):
            tasks = [(number, task) for number in range(len(shots)) for task in tasks]
        tallies = [[Tally()] * len(specs) for _ in shots]
        places = [(number, group) for number in range(len(shots)) for group, _ in cut]
        for (number, group), found in zip(places, pool.run(FixedTasks(tasks)), strict=True):
            for place, tally in zip(group, found, strict=True):
                tallies[number][place] += tally
        return [(tally.evaluation(samples) for tally in of_one) for of_one in tallies]


def _flat(chunks: Iterable[Sequence[Evaluation]]) -> Iterator[Evaluation]:
    for found in chunks:
        yield from found


def tiles(candidates: int, samples: int, batch: int, workers: int) -> list[tuple[range, range]]:
    """The tasks for so many candidates on so many samples: ranges of both, samples in whole batches.

    A batch is not divided: float32 values may depend on its size.
    """
    parts = divide(-(-samples // batch), _PARTS * workers)
    groups = divide(candidates, -(-workers // len(parts)))
    return [(group, range(part.start * batch, min(part.stop * batch, samples))) for group in groups for part in parts]
