"""The evaluators of a search: the data of the spec, the scores, the supernet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from bcgraph import files, keys
from bcgraph.data.split import Split, Splits
from bcgraph.nn.defaults import threads
from bcgraph.nn.graphs.graphed import Graphs
from bcgraph.schema import NetworkSpec
from bcgraph.schema.search import COSTS
from bcgraph.search.events import Event, Progress
from bcgraph.search.finish.training import TrainedAccuracy, Trainer, TrainNetworks
from bcgraph.search.metrics.composite import Composite, Costs
from bcgraph.search.metrics.firing import Firing
from bcgraph.search.metrics.latency import Latencies
from bcgraph.search.records.evaluations import Evaluation, Measure
from bcgraph.search.records.objectives import measured, trains_candidates
from bcgraph.search.records.trained import Job
from bcgraph.search.scores.precision import precision
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.strategies.evolution import Evaluate
from bcgraph.search.strategies.one_run import TrainStage
from bcgraph.search.supernet import devices, several
from bcgraph.search.supernet.one_shot import OneShot
from bcgraph.search.supernet.pruned_run import PrunedRun
from bcgraph.search.supernet.several import TrainSupernets
from bcgraph.search.supernet.supernet import Supernet, SupernetEpoch
from bcgraph.training.distributed.devices import process_group
from bcgraph.training.options import Options

T = TypeVar("T")

# What the spikes on validation data say.
_FIRED = ("energy", "spikes")


class Standard:
    """The evaluators that the specification asks for. They never touch the test set.

    `machine` names the devices that train a supernet, by default the CPU of this process. `device` is where candidates
    are scored and evaluated, `cpu` or `cuda`, up to `at_once` of them in one pass. All training runs have the precision
    of `machine`. The data are those that `spec` names, or those of `splits`. `graphs` says whether training runs on a
    GPU are captured. `train_supernets` may be replaced by what trains them somewhere else.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        seed: int,
        out: Path,
        *,
        inits: int = 1,
        score_dtype: str = "float32",
        accuracy_dtype: str = "float32",
        machine: Options | None = None,
        device: str = "cpu",
        splits: Splits | None = None,
        graphs: Graphs = "auto",
        at_once: int = 1,
    ) -> None:
        self.train_supernets: TrainSupernets = self._train_supernets
        self.given = splits
        self.spec = spec
        self.seed = seed
        self.out = out
        self.inits = inits
        self.precision = precision(score_dtype)
        self.whole = accuracy_dtype == "int16"
        self.machine = machine or Options()
        self.device = device
        self.graphs = graphs
        self.at_once = at_once

    @cached_property
    def splits(self) -> tuple[Split, Split]:
        """Training and validation data, 8:2."""
        return devices.divided(self.spec, self.seed, self.given)

    def init(self) -> Scorer:
        """The evaluator of step one."""
        return self._scorer(self.spec.search.init.scores)

    def evolve(self, progress: Progress) -> Evaluate:
        """The evaluator of the fitness in step two."""
        if trains_candidates(self.spec.search.evolve.strategy):
            return TrainedAccuracy(replace(self.finish(progress), lenient=True), self.seed)
        measures = measured(self.spec.search)
        if measures == ("accuracy",):
            return several.of(self._oneshots(progress))
        others = ("accuracy", *_FIRED, *COSTS, "latency")
        scores = tuple(m for m in measures if m not in others)
        if scores == measures:
            return self._scorer(scores)
        parts: list[Evaluate] = []
        fired = tuple(m for m in _FIRED if m in measures)
        if fired or "accuracy" in measures:
            shots = self._oneshots(progress)
            parts += [several.of(shots)] if "accuracy" in measures else []
            parts += [several.of([Firing(shot, fired) for shot in shots], fired)] if fired else []
        parts += [self._scorer(scores)] if scores else []
        parts += [Costs(found)] if (found := tuple(m for m in COSTS if m in measures)) else []
        parts += [Latencies(keys.derive(self.seed, "latency"))] if "latency" in measures else []
        return Composite(tuple(parts))

    def gains(self, progress: Progress) -> TrainStage:
        """What trains the stages of `strategy = gains`."""
        settings = self.spec.train
        train, validation = self.splits
        group = process_group(self.machine)

        def report(done: int) -> None:
            progress(Event("gains", done, settings.epochs))

        return PrunedRun(
            self.spec,
            self.seed,
            train,
            validation,
            self.out,
            report,
            group,
            graphs=self.graphs,
            precision=self.machine.precision,
        )

    def finish(self, progress: Progress) -> Trainer:
        """What trains the networks of the last stage."""
        train, validation = self.splits
        precision = self.machine.precision
        return Trainer(train, validation, self.out, self.device, progress, graphs=self.graphs, precision=precision)

    def _scorer(self, measures: tuple[Measure, ...]) -> Scorer:
        key = keys.derive(self.seed, "init", "batch")
        size = self.spec.search.init.batch
        batch = ScoringBatch.draw(self.splits[0], size, key)
        return Scorer(batch, self.seed, measures, self.inits, self.precision, device=self.device, at_once=self.at_once)

    def _oneshots(self, progress: Progress) -> list[OneShot]:
        """An evaluator on each supernet, once all are trained."""
        settings = self.spec.search.supernet
        train, validation = self.splits
        seeds, folders = several.seeds(self.seed, settings.seeds), several.folders(self.out, settings.seeds)
        runs = [
            several.Run(Supernet(self.spec, seed, train, machine=self.machine, device=self.device), folder)
            for seed, folder in zip(seeds, folders, strict=True)
        ]
        for run in runs[1:]:
            files.directory(run.folder)
        total = settings.epochs * settings.seeds
        kept = {run: run.supernet.epochs_kept(run.folder) for run in runs} if len(runs) > 1 else {}
        self.train_supernets(runs, several.Count(lambda done: progress(Event("supernet", done, total)), kept))
        return [OneShot(run.supernet, validation, settings.recalibrate, self.whole, self.at_once) for run in runs]

    def _train_supernets(
        self, runs: Sequence[several.Run], report: Callable[[several.Run, SupernetEpoch], None]
    ) -> None:
        """Train one supernet after the other: in this process, or in others of this machine."""
        for run in runs:
            if self.machine == Options():
                run.supernet.train(run.folder, partial(report, run))
            else:
                given = self.given is not None
                devices.train(run.supernet, run.folder, partial(report, run), given=given, search_seed=self.seed)


@dataclass(frozen=True, eq=False)
class OnThreads:
    """Evaluates as `standard` does, on a given number of threads; a supernet trains on torch's own number."""

    standard: Standard
    threads: int

    def init(self) -> Evaluate:
        """The evaluator of step one."""
        return self._limited(self.standard.init())

    def evolve(self, progress: Progress) -> Evaluate:
        """The evaluator of the fitness in step two."""
        return self._limited(self.standard.evolve(progress))

    def gains(self, progress: Progress) -> TrainStage:
        """What trains the stages of `strategy = gains`."""
        train = self.standard.gains(progress)

        def run(stage: int, candidate: Candidate) -> Evaluation:
            with threads(self.threads):
                return train(stage, candidate)

        return run

    def finish(self, progress: Progress) -> TrainNetworks:
        """What trains the networks of the last stage."""
        train = self.standard.finish(progress)

        def run(jobs: Sequence[Job]) -> Iterator[float]:
            yield from self._each(train(jobs))

        return run

    def _limited(self, evaluate: Evaluate) -> Evaluate:
        def run(specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
            return self._each(evaluate(specs))

        return run

    def _each(self, results: Iterable[T]) -> Iterator[T]:
        """`results`, each computed on that number of threads; between them whoever asks has torch's own number."""
        coming = iter(results)
        while True:
            with threads(self.threads):
                found = next(coming, None)
            if found is None:
                return
            yield found
