"""The study: a run's evaluations as Optuna studies, for its dashboard and other tools.

A run has two studies: `init` maximizes the scores of the pool (N against E), `evolve` the fitness. A record is written
to the log first and to its study second. So a kill between the two loses nothing: a resumed run adds missing trials,
and writes its own study again where it does not fit the log.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from bcgraph import foreign, pruning
from bcgraph.errors import RunError
from bcgraph.interrupts import interrupted
from bcgraph.memory import ran_out
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.directory import Identity
from bcgraph.search.records.evaluations import Measure, Record, Stage
from bcgraph.search.records.objectives import of_search
from bcgraph.search.records.storage import FAILURES, PATIENCE, Away, connect, reachable, unreachable
from bcgraph.search.space.members import MemberSpace
from bcgraph.search.space.search_space import described
from bcgraph.spaces import Member

NAME = "study.log"

Place: TypeAlias = tuple[Stage, int, int]
"""Stage, iteration and index, which identify a record."""

OVERHEAD = 0.04
"""The share of the evaluations' time that writing to a slow storage may take before the end of a stage."""


@dataclass(frozen=True)
class StudyLayout:
    """How architectures and values appear in the studies of a run.

    `values` are, for a space that a file describes, all values of what else a connection may have beside its ports and
    its delay.
    """

    name: str
    ports: int
    measures: dict[Stage, tuple[Measure, ...]]
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    minimized: frozenset[Measure] = frozenset()

    def directions(self, stage: Stage) -> list[StudyDirection]:
        """Of each measure of a stage whether it is to be large or small."""
        small = self.minimized if stage == "evolve" else frozenset()
        return [StudyDirection.MINIMIZE if m in small else StudyDirection.MAXIMIZE for m in self.measures[stage]]

    @staticmethod
    def of(spec: NetworkSpec, seed: int) -> StudyLayout:
        """The layout of the studies of a search."""
        settings = spec.search
        values = {} if settings.space is None else _values(described(spec))
        if pruning.one_run(settings.evolve.strategy):
            return StudyLayout(Identity(spec, seed).study_name, len(spec.ports), {"evolve": ("accuracy",)}, values)
        by = of_search(settings)
        measures: dict[Stage, tuple[Measure, ...]] = {"evolve": tuple(each.measure for each in by)}
        if settings.init.pool != 0:
            measures = {"init": settings.init.scores, **measures}
        minimized = frozenset(each.measure for each in by if not each.maximize)
        return StudyLayout(Identity(spec, seed).study_name, len(spec.ports), measures, values, minimized)

    def study_name(self, stage: Stage) -> str:
        """The name of the study of a stage."""
        return f"{self.name}/{stage}"

    def trial(self, record: Record) -> FrozenTrial:
        """A finished trial that holds the whole record. Its parameters are what its connections are made of."""
        ports = IntDistribution(0, self.ports - 1)
        every: dict[str, BaseDistribution] = {"source": ports, "target": ports}
        if self.values:
            every["delay"] = IntDistribution(0, 1_000)
            every |= {name: CategoricalDistribution(values) for name, values in self.values.items()}
        parameters: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        for k, key in enumerate(record.architecture):
            for (name, distribution), value in zip(every.items(), key, strict=True):
                parameters[f"bc{k}.{name}"] = value
                distributions[f"bc{k}.{name}"] = distribution
        trial = create_trial(
            values=[
                -value if direction == StudyDirection.MINIMIZE and math.isinf(value) else value
                for m, direction in zip(self.measures[record.stage], self.directions(record.stage), strict=True)
                for value in [record.evaluation.value(m)]
            ],
            params=parameters,
            distributions=distributions,
            user_attrs=record.as_data(),
        )
        trial.datetime_complete = datetime.now()
        trial.datetime_start = trial.datetime_complete - timedelta(seconds=record.seconds)
        return trial

    def fits(self, trial: FrozenTrial, record: Record, *, whole: bool) -> bool:
        """Whether a trial is the record's.

        With `whole` its parameters count, which earlier versions wrote otherwise, and its values, which some databases
        round.
        """
        own = self.trial(record)
        if (trial.state, trial.user_attrs) != (own.state, own.user_attrs):
            return False
        parts = ("values", "params", "distributions")
        return not whole or all(getattr(trial, part) == getattr(own, part) for part in parts)


@dataclass
class Studies:
    """The studies of a run, open for adding. Only the holder of the run's lock may open them.

    While a storage is unreachable, records wait; once it answers again, those that it lacks are added.
    """

    layout: StudyLayout
    url: str | None
    _studies: dict[Stage, Study]
    _waiting: list[Record] = field(default_factory=list)
    _away: Away = field(default_factory=Away)
    _allowed: float = 0.0
    _cost: float = 0.0

    @staticmethod
    def open(directory: Path, layout: StudyLayout, url: str | None, records: Sequence[Record]) -> Studies:
        """Open the studies, in `url` or the directory's own file, and add those of `records` that they lack.

        The log is the source. The directory's own file is written again from it where it does not fit, whatever is
        wrong with it; what a storage holds is never removed. Raises RunError: E091 when the storage cannot be reached,
        E085 when it holds more than the log or something else, E092 when its driver is not installed.
        """
        if url is not None:
            try:
                return Studies._open(connect(url), layout, url, records)
            except _MisfitError as misfit:
                raise RunError(
                    "E085",
                    f"the storage holds something else as `{layout.name}` than the log of this run: {misfit}",
                    hint="another directory runs the same search in it, or it was changed; name another storage",
                ) from None
        try:
            return Studies._open(_own_storage(directory), layout, None, records)
        except (OSError, RunError) as error:
            if ran_out(error) or not isinstance(error.__cause__, ValueError | KeyError):
                raise
        except Exception as error:  # whatever a damaged journal makes of Optuna
            if ran_out(error) or interrupted(error):
                raise
        with reachable(None):
            (directory / NAME).unlink()
        return Studies._open(_own_storage(directory), layout, None, records)

    @staticmethod
    def _open(storage: BaseStorage, layout: StudyLayout, url: str | None, records: Sequence[Record]) -> Studies:
        opened: dict[Stage, Study] = {}
        with reachable(url):
            for stage in layout.measures:
                opened[stage] = optuna.create_study(
                    storage=storage,
                    study_name=layout.study_name(stage),
                    directions=layout.directions(stage),
                    load_if_exists=True,
                )
            found = Studies(layout, url, opened)
            there = found._places()
            if url is None and len(optuna.get_all_study_names(storage)) != len(opened):
                raise _MisfitError("there are studies of something else")
        more = there.keys() - {_place(record) for record in records}
        if more:
            raise _MisfitError(f"{len(there)} trials for {len(records)} evaluations")
        for record in records:
            trial = there.get(_place(record))
            if trial is not None and not layout.fits(trial, record, whole=url is None):
                raise _MisfitError(f"evaluation {record.index} of iteration {record.iteration} is another")
        found._waiting = [record for record in records if _place(record) not in there]
        found.flush()
        return found

    def add(self, record: Record) -> None:
        """Add a record: to the run's own file at once, to a storage while that takes no more time than `OVERHEAD`."""
        self._waiting.append(record)
        self._allowed += OVERHEAD * record.seconds
        while self._waiting and self._away.due() and (self.url is None or self._cost <= self._allowed):
            self._write(patience=math.inf)

    def flush(self) -> None:
        """Add all waiting records. Raises RunError (E091) when a storage stays unreachable."""
        while self._waiting:
            if self._away.due():
                self._write(patience=PATIENCE)
            else:
                time.sleep(0.1)

    def _write(self, patience: float) -> None:
        """Add the next record. Raises RunError (E091) for a storage unreachable longer than `patience` seconds."""
        started = time.monotonic()
        try:
            if self._away.since is not None:
                # A write that was cut off may have arrived.
                there = self._places()
                self._waiting = [record for record in self._waiting if _place(record) not in there]
            for record in self._waiting[:1]:
                self._studies[record.stage].add_trial(self.layout.trial(record))
        except FAILURES as error:
            spent = time.monotonic() - started
            if self.url is None or interrupted(error) or self._away.failed(spent) > patience:
                raise unreachable(self.url, error) from error
            return
        self._away.back()
        del self._waiting[:1]
        self._cost = time.monotonic() - started
        self._allowed -= self._cost

    def _places(self) -> dict[Place, FrozenTrial]:
        """All trials in the studies, by their places."""
        found: dict[Place, FrozenTrial] = {}
        for stage, study in self._studies.items():
            if self.url is None and study.directions != self.layout.directions(stage):
                raise _MisfitError("other directions")
            for trial in study.get_trials(deepcopy=False):
                place = (stage, trial.user_attrs.get("iteration", -1), trial.user_attrs.get("index", -1))
                if self.url is None and place in found:
                    raise _MisfitError("an evaluation that is there twice")
                # A database that repeats a write, whose answer it has lost, holds a trial twice.
                found.setdefault(place, trial)
        return found


def _values(space: MemberSpace) -> dict[str, tuple[str, ...]]:
    """All values that the connections of a space have, of what is not a number."""
    members = (*space.fixed, *space.members)
    return {name: tuple(sorted({getattr(m, name) for m in members})) for name in Member._fields[3:]}


class _MisfitError(Exception):
    """A study is not that of the log, which it follows."""


def _place(record: Record) -> Place:
    return record.stage, record.iteration, record.index


def _own_storage(directory: Path) -> BaseStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = directory / NAME
    with reachable(None):
        _mend(path)
        return JournalStorage(JournalFileBackend(str(path)))


def _mend(path: Path) -> None:
    """Remove what a kill left: a torn last line, and the journal's own lock (the caller holds the lock of the run)."""
    for stale in path.parent.glob(f"{path.name}.lock*"):
        stale.unlink()
    with suppress(FileNotFoundError):
        data = foreign.read(path)
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as stream:
                stream.truncate(whole)
