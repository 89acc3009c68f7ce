"""The evaluations that the Optuna studies of a run hold, read as any other tool reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.pool import NullPool


def evaluations(out: Path, url: str | None = None) -> list[dict[str, Any]]:
    """Of the run in `out`, with its studies in `url` or in its own file; in the order of a history."""
    storage: BaseStorage
    if url is None:
        storage = JournalStorage(JournalFileBackend(str(out / "study.log")))
    else:
        # Without a pool no connection stays open: the server allows few.
        driver = url.replace("postgresql:", "postgresql+psycopg:")
        storage = RDBStorage(driver, engine_kwargs={"poolclass": NullPool})
    name = json.loads((out / "run.json").read_text())["study"]
    found: dict[tuple[int, int, int], dict[str, Any]] = {}
    for place, stage in enumerate(("init", "evolve")):
        if f"{name}/{stage}" in optuna.get_all_study_names(storage):
            for trial in optuna.load_study(study_name=f"{name}/{stage}", storage=storage).get_trials():
                # A database that repeats a write, whose answer it has lost, holds a trial twice.
                found.setdefault((place, trial.user_attrs["iteration"], trial.user_attrs["index"]), trial.user_attrs)
    return [found[place] for place in sorted(found)]
