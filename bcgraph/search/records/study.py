"""The study: a run's evaluations as Optuna studies, which its dashboard and other tools open.

A run has two of them: `init` maximizes the scores of the pool (N against E), `evolve` the fitness. The log comes
first and the studies follow it, so a kill between the two loses nothing: what is missing is added when the run goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, create_trial

from bcgraph.errors import RunError
from bcgraph.search.records.evaluations import Measure, Record, Stage
from bcgraph.search.records.storage import FAILURES, PATIENCE, Away, connect, reachable, unreachable
from bcgraph.search.space.encoding import distributions, encode
from bcgraph.search.space.pairs import Space

NAME = "study.log"

Place: TypeAlias = tuple[Stage, int, int]
"""Stage, iteration and index of a record: there is one of each."""

OVERHEAD = 0.04
"""The share of the time of the evaluations that writing to a slow storage may take before the end of a stage."""


@dataclass(frozen=True)
class Layout:
    """How architectures and values appear in the studies of a run."""

    name: str
    space: Space
    measures: dict[Stage, tuple[Measure, ...]]

    def study_name(self, stage: Stage) -> str:
        """The name of the study of a stage."""
        return f"{self.name}/{stage}"

    def trial(self, record: Record, parameters: dict[str, BaseDistribution]) -> FrozenTrial:
        """A finished trial that holds the whole record."""
        trial = create_trial(
            values=[record.evaluation.value(m) for m in self.measures[record.stage]],
            params=encode(record.architecture, parameters),
            distributions=parameters,
            user_attrs=record.as_data(),
        )
        trial.datetime_complete = datetime.now()
        trial.datetime_start = trial.datetime_complete - timedelta(seconds=record.seconds)
        return trial


@dataclass
class Studies:
    """The studies of a run, open for adding. Only the holder of the run's lock may open them.

    While a storage is away, records wait; when it is back, those are added that have not arrived.
    """

    layout: Layout
    url: str | None
    _studies: dict[Stage, Study]
    _parameters: dict[str, BaseDistribution]
    _waiting: list[Record] = field(default_factory=list)
    _away: Away = field(default_factory=Away)
    _allowed: float = 0.0
    _cost: float = 0.0

    @staticmethod
    def open(directory: Path, layout: Layout, url: str | None, records: Sequence[Record]) -> Studies:
        """Open the studies, in `url` or the directory's own file, and add those of `records` that they lack.

        Raises RunError: E091 when the storage cannot be reached, E085 when it holds more than the log, E092 when its
        driver is not installed.
        """
        try:
            return Studies._open(_open_storage(directory, url), layout, url, records)
        except _AheadError as ahead:
            if url is None:
                # The disk has lost the end of the log. The study is but a picture of it, so it is drawn anew.
                (directory / NAME).unlink()
                return Studies._open(_open_storage(directory, url), layout, url, records)
            raise RunError(
                "E085",
                f"the storage holds more of `{layout.name}` ({ahead}) than the log of this run",
                hint="another directory runs the same search in it; name another storage",
            ) from None

    @staticmethod
    def _open(storage: BaseStorage, layout: Layout, url: str | None, records: Sequence[Record]) -> Studies:
        opened: dict[Stage, Study] = {}
        with reachable(url):
            for stage, measures in layout.measures.items():
                opened[stage] = optuna.create_study(
                    storage=storage,
                    study_name=layout.study_name(stage),
                    directions=["maximize"] * len(measures),
                    load_if_exists=True,
                )
            found = Studies(layout, url, opened, distributions(layout.space))
            there = found._places()
        more = there - {_place(record) for record in records}
        if more:
            raise _AheadError(f"{len(there)} trials for {len(records)} evaluations")
        found._waiting = [record for record in records if _place(record) not in there]
        found.flush()
        return found

    def add(self, record: Record) -> None:
        """Add a record: at once to the run's own file, to a storage as far as the time of the evaluations allows."""
        self._waiting.append(record)
        self._allowed += OVERHEAD * record.seconds
        while self._waiting and self._away.due() and (self.url is None or self._cost <= self._allowed):
            self._write(patience=math.inf)

    def flush(self) -> None:
        """Add all that is waiting. Raises RunError (E091) when a storage stays away."""
        while self._waiting:
            if self._away.due():
                self._write(patience=PATIENCE)
            else:
                time.sleep(0.1)

    def _write(self, patience: float) -> None:
        """Add the next record; a storage may have been away for so many seconds, the run's own file never."""
        started = time.monotonic()
        try:
            if self._away.since is not None:
                # What was under way when it went may have arrived.
                there = self._places()
                self._waiting = [record for record in self._waiting if _place(record) not in there]
            for record in self._waiting[:1]:
                self._studies[record.stage].add_trial(self.layout.trial(record, self._parameters))
        except FAILURES as error:
            spent = time.monotonic() - started
            if self.url is None or self._away.failed(spent) > patience:
                raise unreachable(self.url, error) from error
            return
        self._away.back()
        del self._waiting[:1]
        self._cost = time.monotonic() - started
        self._allowed -= self._cost

    def _places(self) -> set[Place]:
        """What the studies hold."""
        return {
            (stage, trial.user_attrs.get("iteration", -1), trial.user_attrs.get("index", -1))
            for stage, study in self._studies.items()
            for trial in study.get_trials(deepcopy=False)
        }


def read(directory: Path, name: str, url: str | None) -> list[Record] | None:
    """The records in the studies of a run, in order; None when there is no study (yet).

    Raises RunError (E091, E092).
    """
    if url is None and not (directory / NAME).exists():
        return None
    try:
        storage = _open_storage(directory, url, repair=False)
    except PermissionError:
        return None
    found: dict[Place, Record] = {}
    with reachable(url):
        there = {s.study_name: s for s in optuna.get_all_study_summaries(storage)}
        for stage in ("init", "evolve"):
            if f"{name}/{stage}" in there:
                study = optuna.load_study(storage=storage, study_name=f"{name}/{stage}")
                for trial in study.get_trials(deepcopy=False):
                    record = Record.from_data(trial.user_attrs)
                    # A storage that repeats a write of its own accord, whose answer it has lost, has a trial twice.
                    found.setdefault(_place(record), record)
    return list(found.values())


class _AheadError(Exception):
    """A study holds more than the log that it follows."""


def _place(record: Record) -> Place:
    return record.stage, record.iteration, record.index


def _open_storage(directory: Path, url: str | None, *, repair: bool = True) -> BaseStorage:
    if url is not None:
        return connect(url)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = directory / NAME
    with reachable(url):
        if repair:
            _mend(path)
        return JournalStorage(JournalFileBackend(str(path)))


def _mend(path: Path) -> None:
    """Undo what a kill left: a torn last line, and the journal's own lock (the run's lock is held by the caller)."""
    for stale in path.parent.glob(f"{path.name}.lock*"):
        stale.unlink()
    with suppress(FileNotFoundError):
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as stream:
                stream.truncate(whole)
