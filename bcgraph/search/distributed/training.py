"""The training runs of the last stage in workers: one run a task, with the same weights as in one process.

A worker that sees the directory of the search trains there, so that a run resumes from its checkpoint, whichever worker
it was lost with. Where machines share no folder it trains in one of its own and sends the files when they are whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bcgraph import files, foreign
from bcgraph.schema import NetworkSpec
from bcgraph.search.distributed.chunks import FixedTasks
from bcgraph.search.distributed.pool import Pool
from bcgraph.search.distributed.worker import Work, Workload
from bcgraph.search.events import Event, Progress
from bcgraph.search.finish.training import STAGE, Trainer
from bcgraph.search.records import directory
from bcgraph.search.records.trained import Job


@dataclass(frozen=True)
class Task:
    """A training run: the network, its seed, and its folder in the directory of the search."""

    spec: NetworkSpec
    seed: int
    folder: str


@dataclass(frozen=True)
class Done:
    """The validation accuracy of a run, and its files where the worker has not written them into place."""

    accuracy: float
    files: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, eq=False)
class Training:
    """The data travel with it. `identity` is the `run.json` of the search, by which a worker knows its directory."""

    trainer: Trainer
    identity: bytes

    def start(self) -> Work:
        """A task is a `Task`, a result a `Done`."""
        return self._done

    def _done(self, task: Task) -> Done:
        if _seen(self.trainer.out, self.identity):
            return Done(self.trainer.one(task.spec, task.seed, self.trainer.out / task.folder), ())
        with TemporaryDirectory() as own:
            accuracy = self.trainer.one(task.spec, task.seed, Path(own))
            written = sorted(path for path in Path(own).iterdir() if path.is_file())
            return Done(accuracy, tuple((path.name, path.read_bytes()) for path in written))


def _seen(out: Path, identity: bytes) -> bool:
    """Whether `out` is the directory of the search on this machine, too."""
    try:
        return foreign.read(out / directory.NAME, foreign.MAX_JSON) == identity
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, eq=False)
class PooledTrainer:
    """Trains as `trainer` does, in a pool of workers."""

    trainer: Trainer
    pool: Callable[[Workload], Pool]
    progress: Progress

    def __call__(self, jobs: Sequence[Job]) -> Iterator[float]:
        """The validation accuracy of each job, in order."""
        out = self.trainer.out.resolve()
        alone = replace(self.trainer, out=out, progress=None)
        pool = self.pool(Training(alone, (out / directory.NAME).read_bytes()))
        tasks = [Task(job.entrant.spec, job.seed, job.folder) for job in jobs]
        epochs = [job.entrant.spec.train.epochs for job in jobs]
        for place, (task, done) in enumerate(zip(tasks, pool.run(FixedTasks(tasks)), strict=True), 1):
            for name, content in done.files:
                files.write_bytes(files.directory(out / task.folder) / name, content)
            self.progress(Event(STAGE, sum(epochs[:place]), sum(epochs)))
            yield done.accuracy
