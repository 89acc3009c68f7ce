"""The study: a run's evaluations as Optuna studies, which its dashboard and other tools open.

A run has two of them: `init` maximizes the scores of the pool (N against E), `evolve` the fitness. The log comes
first and the studies follow it, so a kill between the two loses nothing: what is missing is added when the run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, create_trial

from bcgraph.errors import RunError
from bcgraph.search.encoding import distributions, encode
from bcgraph.search.operators.space import Space
from bcgraph.search.records import Measure, Record, Stage
from bcgraph.urls import without_password

NAME = "study.log"

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
    """The studies of a run, open for adding. Only the holder of the run's lock may open them."""

    layout: Layout
    storage: BaseStorage
    quick: bool
    _studies: dict[Stage, Study]
    _parameters: dict[str, BaseDistribution]
    _waiting: list[Record] = field(default_factory=list)
    _allowed: float = 0.0
    _cost: float = 0.0

    @staticmethod
    def open(directory: Path, layout: Layout, url: str | None, records: Sequence[Record]) -> Studies:
        """Open the studies, in `url` or the directory's own file, and add those of `records` that they lack.

        Raises RunError: E091 when the storage cannot be reached, E085 when it holds more than the log.
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
        missing: list[Record] = []
        with _reachable(url):
            for stage, measures in layout.measures.items():
                study = optuna.create_study(
                    storage=storage,
                    study_name=layout.study_name(stage),
                    directions=["maximize"] * len(measures),
                    load_if_exists=True,
                )
                opened[stage] = study
                own = [r for r in records if r.stage == stage]
                there = len(study.get_trials(deepcopy=False))
                if there > len(own):
                    raise _AheadError(f"{there} trials of `{stage}` for {len(own)} evaluations")
                missing += own[there:]
        found = Studies(layout, storage, url is None, opened, distributions(layout.space))
        found._waiting = missing
        found.flush()
        return found

    def add(self, record: Record) -> None:
        """Add a record: at once to a quick storage; to a slow one as far as the time of the evaluations allows."""
        self._waiting.append(record)
        self._allowed += OVERHEAD * record.seconds
        while self._waiting and (self.quick or self._cost <= self._allowed):
            self._write()

    def flush(self) -> None:
        """Add all that is waiting."""
        while self._waiting:
            self._write()

    def _write(self) -> None:
        record = self._waiting[0]
        started = time.monotonic()
        with _reachable(None):
            self._studies[record.stage].add_trial(self.layout.trial(record, self._parameters))
        self._waiting.pop(0)
        self._cost = time.monotonic() - started
        self._allowed -= self._cost


def read(directory: Path, name: str, url: str | None) -> list[Record] | None:
    """The records in the studies of a run, in order; None when there is no study (yet). Raises RunError (E091)."""
    if url is None and not (directory / NAME).exists():
        return None
    try:
        storage = _open_storage(directory, url, repair=False)
    except PermissionError:
        return None
    found: list[Record] = []
    with _reachable(url):
        there = {s.study_name: s for s in optuna.get_all_study_summaries(storage)}
        for stage in ("init", "evolve"):
            if f"{name}/{stage}" in there:
                study = optuna.load_study(storage=storage, study_name=f"{name}/{stage}")
                found += [Record.from_data(t.user_attrs) for t in study.get_trials(deepcopy=False)]
    return found


class _AheadError(Exception):
    """A study holds more than the log that it follows."""


class _Reachable:
    """Turns what a storage raises into one clear error."""

    def __init__(self, url: str | None) -> None:
        self.where = "the study" if url is None else f"the storage `{without_password(url)}`"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, RunError | _AheadError) or not isinstance(error, Exception):
            return
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunError(
            "E091",
            f"{self.where} cannot be reached: {first}",
            hint="nothing is lost: the log holds every evaluation; run the same command again",
        ) from error


def _reachable(url: str | None) -> _Reachable:
    return _Reachable(url)


def _open_storage(directory: Path, url: str | None, *, repair: bool = True) -> BaseStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _reachable(url):
        if url is not None:
            return get_storage(url)
        path = directory / NAME
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
