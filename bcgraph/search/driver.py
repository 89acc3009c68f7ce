"""The search of `bcgraph search SPEC --out DIR`: from a specification to the best architecture found.

Every decision follows from keys and from recorded evaluations, and each evaluation is recorded before the next one
begins. So the same command on the same directory resumes an interrupted search, with the same result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bcgraph import files
from bcgraph.errors import DataError, RunError, SearchError
from bcgraph.nn.defaults import ordinary_defaults
from bcgraph.plugins.values import Strategy
from bcgraph.schema import NetworkSpec
from bcgraph.search.events import Event, Progress
from bcgraph.search.finish.entrants import entrants, jobs
from bcgraph.search.options import Options
from bcgraph.search.records import beside, directory, objectives, storage, trained
from bcgraph.search.records.evaluations import (
    Evaluation,
    Note,
    Record,
)
from bcgraph.search.records.log import Log
from bcgraph.search.records.study import Studies, StudyLayout
from bcgraph.search.result import SearchResult, describe, write_front
from bcgraph.search.scores.precision import precision
from bcgraph.search.scores.stability import stability
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.limits import Limits
from bcgraph.search.space.search_space import Architecture, architecture_of, wired
from bcgraph.search.strategies import selection
from bcgraph.search.strategies.evolution import Evaluate, declared, evolve
from bcgraph.search.strategies.one_run import TrainStage

if TYPE_CHECKING:
    from bcgraph.data.split import Splits
    from bcgraph.data.torch_dataset import Given, MapDataset
    from bcgraph.search.finish.training import TrainNetworks

BEST = "best.bcg"


class Hook(Protocol):
    """Called with the result while the run's directory is still locked: writes weights, exports, reports."""

    def __call__(self, result: SearchResult, /) -> None:
        """Do the work."""


class Evaluators(Protocol):
    """The evaluators of a run. Each method is called only if it is needed, and once."""

    def init(self) -> Evaluate:
        """The evaluator that scores the pool."""

    def evolve(self, progress: Progress) -> Evaluate:
        """The evaluator of the fitness. Trains a supernet first if the fitness is one-shot accuracy."""

    def gains(self, progress: Progress) -> TrainStage:
        """What trains the stages of `strategy = gains`."""

    def finish(self, progress: Progress) -> TrainNetworks:
        """What trains the networks of the last stage."""


@ordinary_defaults()
def run(
    spec: NetworkSpec,
    out: Path,
    dataset: Given | None = None,
    test: MapDataset | None = None,
    *,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
    hooks: Sequence[Hook] = (),
    evaluators: Evaluators | None = None,
) -> SearchResult:
    """Search `spec` in the directory `out`, or resume the search in it.

    The data are those that `spec` names, or `dataset`: any map-style torch `Dataset`, or a pair (train, test), as
    `bcgraph.data.of` takes them. A search reads the training part alone, and divides it 8:2 for validation.

    Writes `spec.bcg`, `run.json`, `log.jsonl`, the study and `best.bcg`. `hooks` run at the end, also when `run` is
    called on a finished search. Raises SearchError (E089) for contradictory settings and when every candidate is dead;
    RunError: E041 and E074 for devices that are missing or too many for the batch, E084 when a file cannot be written,
    E085 when `out` belongs to another run, E086 when it is in use, E091 when a storage is unreachable, E092 and E093
    when workers or the processes on devices could not be started or were lost; and the errors of loading the data.
    """
    options = _settled(spec, out, options or Options())
    notes = selection.check(spec)
    splits, own = _given(spec, dataset, test)
    options.check(spec)
    precision(options.score_dtype)
    if "latency" in objectives.measured(spec.search):
        from bcgraph.search.metrics import latency

        latency.check(spec)
    if options.storage is not None:
        storage.check(options.storage)
    with files.locked(out):
        directory.claim(
            out,
            directory.Identity(spec, seed, {**options.as_data(), **own}),
        )
        search = directory.read_identity(out)
        log = Log.open(out, search["study"], search["spec"]["search"])
        try:
            studies = Studies.open(out, StudyLayout.of(spec, seed), options.storage, log.history.records)
            given = nullcontext(evaluators) if evaluators is not None else _evaluators(spec, seed, out, options, splits)
            with given as found:
                running = _Search(spec, seed, log, studies, found, progress or _ignore, options.at_once or 1)
                for note in notes:
                    running.note(note)
                result = running.result(out, options.device)
        finally:
            log.close()
        for hook in hooks:
            hook(result)
        write_front(result)
        # Last: this file marks the run as finished.
        files.write_text(out / BEST, describe(result))
        return result


def _settled(spec: NetworkSpec, out: Path, options: Options) -> Options:
    """`options` with `auto` resolved: the digits of a supernet and of evaluations depend on the kind of device."""
    if (options.devices, options.accelerator) == (1, "cpu"):
        return options
    from bcgraph.search.supernet import devices

    elsewhere = options.ray is not None
    found = devices.settled(spec, out, options.machine, evaluates=not options.distributed, elsewhere=elsewhere)
    options = replace(options, accelerator=found.accelerator)
    if options.at_once is None and options.device == "cuda":
        from bcgraph.search.supernet import at_once

        # A run that is resumed keeps the number that it began with.
        options = replace(options, at_once=directory.at_once(out) or at_once.fitting(spec))
    return options


def _given(
    spec: NetworkSpec, dataset: Given | None, test: MapDataset | None
) -> tuple[Splits | None, dict[str, object]]:
    """The data that were given, and what the identity of a run keeps of them."""
    if dataset is None:
        if test is not None:
            raise DataError(
                "E081", "a test dataset needs a dataset to search with", hint="run(spec, out, dataset, test)"
            )
        return None, {}
    from bcgraph.data.torch_dataset import identified

    splits, identity = identified(spec, dataset, test)
    return splits, {directory.DATASET: identity}


@contextmanager
def _evaluators(
    spec: NetworkSpec, seed: int, out: Path, options: Options, splits: Splits | None
) -> Iterator[Evaluators]:
    """The evaluators that the specification asks for, in this process or in workers."""
    from bcgraph.search.evaluators import OnThreads, Standard

    own = Standard(
        spec,
        seed,
        out,
        inits=options.inits,
        score_dtype=options.score_dtype,
        accuracy_dtype=options.accuracy_dtype,
        machine=options.machine,
        device=options.device,
        splits=splits,
        graphs=options.graphs,
        at_once=options.at_once or 1,
    )
    if options.distributed:
        from bcgraph.search.distributed.evaluators import Distributed

        with Distributed(own, out, options.workers, options.evaluation_threads or 1, options.ray) as found:
            yield found
    else:
        yield own if options.evaluation_threads is None else OnThreads(own, options.evaluation_threads)


@dataclass
class _Search:
    """A running search."""

    spec: NetworkSpec
    seed: int
    log: Log
    studies: Studies
    evaluators: Evaluators
    progress: Progress
    at_once: int = 1

    def __post_init__(self) -> None:
        self.notes = list(self.log.history.notes)
        self.records = list(self.log.history.records)
        self.limits = Limits.of(self.spec)
        self.by = objectives.of_search(self.spec.search)
        self.within = objectives.required(self.spec.search)
        self.evaluate = _Once(lambda: self.evaluators.evolve(self.progress), self.at_once)

    def result(self, out: Path, device: str) -> SearchResult:
        """Run both steps, apart from what the log holds already."""
        strategy: Strategy = declared(self.spec).value
        chosen = self._evolution(self._initial()) if strategy.run is None else self._one_run(strategy.run)
        if others := dict(beside.missing(out, self.spec)):
            beside.write(out, self._beside(others))
        best = (strategy.network or wired)(self.spec, chosen.architecture)
        finish = None
        if self.spec.search.finish is not None:
            finish, best = self._finish(out)
            chosen = trained.record_of(finish, self.records)
        records, notes = tuple(self.records), tuple(self.notes)
        return SearchResult(out, self.seed, self.spec, best, chosen, records, notes, device, finish)

    def _beside(self, others: Mapping[str, NetworkSpec]) -> dict[str, tuple[NetworkSpec, Evaluation]]:
        """The evaluations of networks by name; one that step two has evaluated is not evaluated again."""
        known = {r.architecture: r.evaluation for r in self.records if r.stage == "evolve"}
        places = {name: architecture_of(spec) for name, spec in others.items() if not spec.connections}
        found = {name: known[place] for name, place in places.items() if place in known}
        left = [name for name in others if name not in found]
        found.update(zip(left, self.evaluate([others[name] for name in left]), strict=True) if left else ())
        return {name: (spec, found[name]) for name, spec in others.items()}

    def _finish(self, out: Path) -> tuple[trained.Finish, NetworkSpec]:
        """The last stage: trains the best; returns what it measured, and the best of them."""
        assert self.spec.search.finish is not None
        networks = entrants(self.spec, self.seed, self.records)
        found = trained.Results.open(out, self.spec.search.finish.seeds, networks)
        every = jobs(self.spec, self.seed, networks)
        left = [job for job in every if (job.entrant.name, job.number) not in found.done]
        if left:
            train = self.evaluators.finish(self.progress)
            for job, accuracy in zip(left, train(left), strict=True):
                found.add(job, accuracy)
        winner = found.finish.best
        assert winner is not None, "every training run is done"
        return found.finish, next(each.spec for each in networks if each.name == winner.name)

    def note(self, note: Note) -> None:
        """Record a note, once."""
        if note not in self.notes:
            self.log.append(note)
            self.notes.append(note)

    def keep(self, record: Record) -> None:
        """Write a record: to the log first."""
        self.log.append(record)
        self.records.append(record)
        self.studies.add(record)

    def _initial(self) -> list[Architecture]:
        """Step one: score the pool and select, or start from random architectures."""
        settings = self.spec.search.init
        if settings.pool == 0:
            first = selection.unscored(self.spec, self.seed, self.limits)
            self._count_rejected("step one")
            return first
        pool = selection.pool(self.spec, self.seed, self.limits)
        self._count_rejected("step one")
        known = [r for r in self.records if r.stage == "init"]
        _expect(known, pool)
        rest = pool[len(known) :]
        if rest:
            # Groups of candidates are those of an uninterrupted run: in float32 last digits may depend on the group.
            again = len(known) % self.at_once
            candidates = [Candidate.at(self.spec, architecture, "pool") for architecture in rest]
            specs = [wired(self.spec, architecture) for architecture in pool[len(known) - again :]]
            timed = _timed(islice(self.evaluators.init()(specs), again, None))
            for index, (candidate, (found, seconds)) in enumerate(zip(candidates, timed, strict=True), len(known)):
                record = Record.of(candidate, "init", 0, index, found, seconds)
                self.keep(record)
                known.append(record)
                self.progress(Event("init", index + 1, len(pool)))
            self.studies.flush()
        for note in stability(known):
            self.note(note)
        return [r.architecture for r in self._kept(known)]

    def _kept(self, pool: Sequence[Record]) -> list[Record]:
        """What step one keeps of the pool that it has scored."""
        init = self.spec.search.init
        return selection.select(pool, init.scores, init.keep, self.within, init.choose, self.spec.uses)

    def _count_rejected(self, stage: str) -> None:
        """Note how many candidates of a stage broke a bound, which cost no evaluation."""
        for text in self.limits.notes(stage):
            self.note(Note(text))
        self.limits.rejected.clear()

    def _evolution(self, initial: list[Architecture]) -> Record:
        """Step two; returns the chosen record."""
        settings = self.spec.search.evolve
        known = [r for r in self.records if r.stage == "evolve"]
        strategy: Strategy = declared(self.spec).value
        total = len(initial) + (0 if strategy.loop else settings.iterations * settings.population)
        first = self.by[0]
        keeps = [r for r in known if not objectives.excess(r.evaluation, self.within)]
        best = max((first.value(r.evaluation) for r in keeps), default=-math.inf)
        evaluate = self.evaluate
        loop = strategy.loop or evolve
        for entry in loop(self.spec, evaluate, seed=self.seed, initial=initial, history=known, limits=self.limits):
            if isinstance(entry, Note):
                self.note(entry)
                continue
            self.keep(entry)
            known.append(entry)
            if not objectives.excess(entry.evaluation, self.within):
                best = max(best, first.value(entry.evaluation))
            shown = best if first.maximize else -best
            self.progress(Event("evolve", len(known), total, shown if math.isfinite(best) else None))
        self.studies.flush()
        self._count_rejected("step two")
        chosen = objectives.best_first(self.spec, self.records)[0]
        if not all(math.isfinite(each.value(chosen.evaluation)) for each in self.by):
            reasons = dict(chosen.evaluation.reasons)
            why = next((reasons[each.measure] for each in self.by if each.measure in reasons), "no finite value")
            raise SearchError(
                "E089",
                f"none of the {len(known)} candidates is alive: {why}",
                hint="check the data, the threshold and the depth of the network",
            )
        for each in self.within:
            if each.excess(chosen.evaluation):
                found = chosen.evaluation.measured(each.measure)
                raise SearchError(
                    "E067",
                    f"none of the {len(known)} candidates keeps within all bounds: the nearest has "
                    f"{each.measure} {'not measured' if found is None else f'{found:.6g}'}, which breaks `{each}`",
                    span=next(b.span for b in self.spec.search.subject_to if b.metric == each.measure),
                    hint="a looser bound, or a longer search, in a new directory",
                )
        return chosen

    def _one_run(self, run: Callable[..., Iterator[Record]]) -> Record:
        """Step two as one training run, which needs no step one; returns the record of the last stage."""
        history = [r for r in self.records if r.stage == "evolve"]
        train: TrainStage | None = None

        def first(stage: int, candidate: Candidate) -> Evaluation:
            nonlocal train
            train = train or self.evaluators.gains(self.progress)
            return train(stage, candidate)

        for record in run(self.spec, first, history=history):
            self.keep(record)
            history.append(record)
        self.studies.flush()
        return history[-1]


class _Once:
    """An evaluator that is built when it is first called, and evaluates so many candidates at once."""

    def __init__(self, make: Callable[[], Evaluate], at_once: int) -> None:
        self.make = make
        self.at_once = at_once
        self.made: Evaluate | None = None

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        if self.made is None:
            self.made = self.make()
        yield from self.made(specs)


def _timed(results: Iterable[Evaluation]) -> Iterator[tuple[Evaluation, float]]:
    """Each result with the seconds that it took."""
    started = time.monotonic()
    for result in results:
        now = time.monotonic()
        yield result, now - started
        started = time.monotonic()


def _expect(known: Sequence[Record], pool: Sequence[Architecture]) -> None:
    """Raise RunError (E085) unless the records are the first of the pool."""
    if len(known) > len(pool) or any(
        (r.index, r.architecture) != (place, pool[place]) for place, r in enumerate(known)
    ):
        raise RunError(
            "E085",
            "the scored candidates in the log are not those of this search",
            hint="the log was changed, or was written by another version; start in a new directory",
        )


def _ignore(event: Event) -> None:
    """The progress callback where none is given."""
