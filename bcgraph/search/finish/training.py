"""The training runs of the last stage of a search, in this process: on its training part, judged on validation data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from bcgraph import training, weights
from bcgraph.data import Splits
from bcgraph.data.split import Split
from bcgraph.schema import NetworkSpec
from bcgraph.search.events import Event, Progress
from bcgraph.search.records.trained import Job
from bcgraph.training.events import Epoch
from bcgraph.training.session import LAST

TrainNetworks: TypeAlias = Callable[[Sequence[Job]], Iterator[float]]
"""Trains networks to the end, in order; yields the validation accuracy of each as soon as it is known."""

STAGE = "finish"


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains in the folders of `out`. A run that was stopped resumes after its last whole epoch.

    `train` and `validation` are the search's own parts of the training data: the test part is never read.
    """

    train: Split
    validation: Split
    out: Path
    device: str = "cpu"
    progress: Progress | None = None

    def __call__(self, jobs: Sequence[Job]) -> Iterator[float]:
        """The validation accuracy of each job. Raises what `bcgraph.training.train` raises."""
        total = sum(job.entrant.spec.train.epochs for job in jobs)
        done = 0
        for job in jobs:
            yield self.one(job.entrant.spec, job.seed, self.out / job.folder, self._reported(done, total))
            done += job.entrant.spec.train.epochs

    def one(self, spec: NetworkSpec, seed: int, folder: Path, progress: training.Progress | None = None) -> float:
        """Train one network in a folder, or resume it there; its accuracy after the last epoch."""
        source = self.train.source
        splits = Splits(self.train, self.validation, self.train.classes, source.mean, source.std, "validation")
        folder.mkdir(parents=True, exist_ok=True)
        found = training.train(spec, out=folder, seed=seed, splits=splits, device=self.device, progress=progress)
        return found.accuracy

    def _reported(self, done: int, total: int) -> training.Progress | None:
        if self.progress is None:
            return None
        report = self.progress

        def on_event(event: training.Event) -> None:
            if isinstance(event, Epoch):
                report(Event(STAGE, done + event.epoch, total))

        return on_event


def trained(out: Path, name: str, seed: int, spec: NetworkSpec) -> dict[str, Tensor]:
    """The weights after the last epoch of a training run of the last stage. Raises WeightsError (E082, E083)."""
    return weights.load(out / f"finish/{name}/seed-{seed}" / LAST, spec=spec)
