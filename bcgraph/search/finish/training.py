"""The training runs of the last stage of a search, in this process: on its training part, judged on validation data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from bcgraph import keys, run_files, training, weights
from bcgraph.data import Splits
from bcgraph.data.split import Split
from bcgraph.errors import RunError
from bcgraph.nn.graphs.graphed import Graphs
from bcgraph.run_files import LAST
from bcgraph.schema import NetworkSpec
from bcgraph.search.events import Event, Progress
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.records.trained import Entrant, Job
from bcgraph.search.space.search_space import architecture_of
from bcgraph.training.events import Epoch
from bcgraph.training.options import Precision

TrainNetworks: TypeAlias = Callable[[Sequence[Job]], Iterator[float]]
"""Trains networks to the end, in order; yields the validation accuracy of each as soon as it is known."""

STAGE = "finish"


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains in the folders of `out`. A run that was stopped resumes after its last whole epoch.

    `train` and `validation` are the search's own parts of the training data: the test part is never read. With
    `lenient` a run whose loss is not finite has the accuracy -inf, which otherwise is an error. `graphs` and
    `precision` are those of `training.Options`.
    """

    train: Split
    validation: Split
    out: Path
    device: str = "cpu"
    progress: Progress | None = None
    lenient: bool = False
    graphs: Graphs = "auto"
    precision: Precision = "32"

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
        try:
            options = training.Options(self.device, precision=self.precision, graphs=self.graphs)
            found = training.train(spec, out=folder, seed=seed, splits=splits, options=options, progress=progress)
        except RunError as error:
            if not self.lenient or error.code != "E088":
                raise
            return -math.inf
        return found.accuracy

    def _reported(self, done: int, total: int) -> training.Progress | None:
        if self.progress is None:
            return None
        report = self.progress

        def on_event(event: training.Event) -> None:
            if isinstance(event, Epoch):
                report(Event(STAGE, done + event.epoch, total))

        return on_event


SHORT = "candidates"
"""The folder of the training runs of a search that trains each candidate on its own."""


@dataclass(frozen=True, eq=False)
class TrainedAccuracy:
    """Evaluates networks by training each as it says: the validation accuracy after the last epoch."""

    train: TrainNetworks
    seed: int

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each network, in order; -inf with its reason where the loss is not finite."""
        for accuracy in self.train([short_job(spec, self.seed) for spec in specs]):
            if math.isfinite(accuracy):
                yield Evaluation(accuracy=accuracy)
            else:
                yield Evaluation.failed(("accuracy",), "the loss is not finite")


def short_job(spec: NetworkSpec, seed: int) -> Job:
    """The training run of a candidate of the search with this seed; its name says how long it trains, and what."""
    architecture = architecture_of(spec)
    # The fingerprint says which weights fit, and not where they start.
    digest = hashlib.sha256(f"{spec.fingerprint()} {architecture}".encode()).hexdigest()
    name = f"epochs-{spec.train.epochs}-{digest[:16]}"
    return Job(Entrant(name, spec, architecture), 0, keys.derive(seed, SHORT), SHORT)


def short_trained(out: Path, seed: int, spec: NetworkSpec) -> dict[str, Tensor]:
    """The weights of a candidate that was trained to the end. Raises WeightsError (E082, E083)."""
    return _last(out / short_job(spec, seed).folder, spec)


def trained(out: Path, name: str, seed: int, spec: NetworkSpec) -> dict[str, Tensor]:
    """The weights after the last epoch of a training run of the last stage. Raises WeightsError (E082, E083)."""
    return _last(out / f"finish/{name}/seed-{seed}", spec)


def _last(folder: Path, spec: NetworkSpec) -> dict[str, Tensor]:
    """The weights after the last epoch of the run in a folder, which must be its own: RunError (E085)."""
    run_files.check_weights(folder / LAST)
    return weights.load(folder / LAST, spec=spec)
