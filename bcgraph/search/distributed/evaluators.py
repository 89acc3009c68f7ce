"""The evaluators of a search with workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bcgraph.search.distributed import cluster
from bcgraph.search.distributed.pool import Pool
from bcgraph.search.distributed.tasks import PooledEvaluator
from bcgraph.search.distributed.training import PooledTrainer
from bcgraph.search.distributed.worker import Workload
from bcgraph.search.evaluators import Standard
from bcgraph.search.events import Progress
from bcgraph.search.finish.training import TrainedAccuracy, Trainer
from bcgraph.search.metrics.composite import Composite
from bcgraph.search.scores.scorer import Scorer
from bcgraph.search.strategies.evolution import Evaluate
from bcgraph.search.strategies.one_run import TrainStage
from bcgraph.search.supernet.one_shot import OneShot
from bcgraph.search.supernet.several import Mean, Run
from bcgraph.search.supernet.supernet import SupernetEpoch


@dataclass(eq=False)
class Distributed:
    """Evaluates as `standard` does, in `workers` processes of `threads` threads.

    The first evaluation connects to Ray, or starts it without an `address`. Without a number of workers there are as
    many as the cluster has room for. This process trains the supernet; several supernets, and one on several devices of
    a cluster, train there (`elastic`). At the end, `workers.json` in `out` says how well the workers were used.
    """

    standard: Standard
    out: Path
    workers: int | None
    threads: int
    address: str | None = None
    pool: Pool | None = None
    _stack: ExitStack = field(default_factory=ExitStack)
    _joined: bool = False

    def __enter__(self) -> Distributed:
        """Check that Ray is installed (RunError E092). Starts nothing yet."""
        cluster.check()
        several = self.standard.spec.search.supernet.seeds > 1 and self.standard.machine.devices == 1
        if several or (self.address is not None and self.standard.machine.devices > 1):
            self.standard.train_supernets = self._train_supernets
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        with self._stack:
            if self.pool is not None:
                self.pool.usage.keep(self.out)

    def init(self) -> Evaluate:
        """The scores of the pool."""
        return self._pooled(self.standard.init())

    def evolve(self, progress: Progress) -> Evaluate:
        """The fitness of the evolution; of several metrics the workers measure the first that they can."""
        found = self.standard.evolve(progress)
        if isinstance(found, TrainedAccuracy):
            assert isinstance(found.train, Trainer)
            return replace(found, train=PooledTrainer(found.train, self._pool, progress))
        if not isinstance(found, Composite):
            return self._pooled(found)
        place = next((k for k, part in enumerate(found.parts) if _divisible(part)), None)
        return Composite(tuple(self._pooled(part) if k == place else part for k, part in enumerate(found.parts)))

    def _pooled(self, evaluate: Evaluate) -> PooledEvaluator:
        return PooledEvaluator(evaluate, self.standard.spec, self._pool)

    def gains(self, progress: Progress) -> TrainStage:
        """One training run, which workers cannot share: this process trains (`Options.check` refuses workers)."""
        return self.standard.gains(progress)

    def finish(self, progress: Progress) -> PooledTrainer:
        """The last stage, a training run a task."""
        return PooledTrainer(self.standard.finish(progress), self._pool, progress)

    def _train_supernets(self, runs: Sequence[Run], report: Callable[[Run, SupernetEpoch], None]) -> None:
        """Train supernets on the machines of the cluster."""
        from bcgraph.search.distributed.elastic import ElasticTraining

        self._join()
        ElasticTraining(self.standard.machine)(runs, report)

    def _join(self) -> None:
        """Connect to Ray, once."""
        if not self._joined:
            self._stack.enter_context(cluster.joined(self.address, self.threads * (self.workers or 1)))
            self._joined = True

    def _pool(self, workload: Workload) -> Pool:
        """The workers, with a workload."""
        if self.pool is None:
            self._join()
            workers = self.workers or max(1, cluster.cores() // self.threads)
            self.pool = Pool(workers, self.threads)
            self._stack.callback(self.pool.close)
        self.pool.give(workload)
        return self.pool


def _divisible(part: Evaluate) -> bool:
    """Whether workers can measure it."""
    return all(isinstance(each, OneShot | Scorer) for each in (part.parts if isinstance(part, Mean) else (part,)))
