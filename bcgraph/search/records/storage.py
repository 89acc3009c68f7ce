"""Optuna storages: opened by URL, with one error for all their failures, and retried while they are unreachable."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from bcgraph import interrupts
from bcgraph.errors import RunError
from bcgraph.urls import redacted, shown, understood

PATIENCE = 60.0
"""Seconds that the end of a stage waits for an unreachable storage."""

FAILURES = (StorageInternalError, SQLAlchemyError, OSError)
"""The errors of a storage that is unreachable."""

# A URL that names no driver means the one that the extra `postgresql` installs.
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}

# The first process to use an empty database creates its tables; of several at once, all but one fail and try again.
_CREATIONS = 8

# While a storage is unreachable, retries may take this share of the time.
_TRYING = 0.1


def connect(url: str) -> BaseStorage:
    """The storage at a URL. Raises RunError: E091 when it cannot be reached, E092 when its driver is not installed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    address = _parsed(url)
    kwargs: dict[str, Any] = {} if address.get_backend_name() == "sqlite" else {"pool_pre_ping": True}
    if address.get_backend_name() == "postgresql":
        kwargs["connect_args"] = {"connect_timeout": address.query.get("connect_timeout", 10)}
    try:
        with reachable(url):
            for left in reversed(range(_CREATIONS)):
                try:
                    return get_storage(RDBStorage(address.render_as_string(hide_password=False), kwargs))
                except (IntegrityError, ProgrammingError):
                    if not left:
                        raise
                    time.sleep(0.25)
    except ImportError:
        raise RunError(
            "E092",
            f"the storage `{shown(url)}` needs a driver that is not installed",
            hint="for PostgreSQL: pip install 'bcgraph[postgresql]'",
        ) from None
    raise AssertionError


def unreachable(url: str | None, error: BaseException) -> RunError:
    """The error for a storage that fails (E091), with the message of the first error in the chain.

    Raises KeyboardInterrupt for what a driver makes of an interrupt: the storage did not fail.
    """
    interrupts.check(error)
    cause = error
    while (earlier := cause.__cause__ or cause.__context__) is not None:
        cause = earlier
    first = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    where = "the study" if url is None else f"the storage `{shown(url)}`"
    return RunError(
        "E091",
        f"{where} cannot be reached: {redacted(first, url)}",
        hint="nothing is lost: the log holds every evaluation; run the same command again",
    )


@contextmanager
def reachable(url: str | None) -> Iterator[None]:
    """Turns what a storage raises in the block into a RunError (E091)."""
    try:
        yield
    except (*FAILURES, ValueError) as error:
        raise unreachable(url, error) from error


@dataclass
class Away:
    """Since when a storage has been unreachable, if it is, and when to try again."""

    since: float | None = None
    again: float = 0.0

    def due(self) -> bool:
        """Whether to try now."""
        return self.since is None or time.monotonic() >= self.again

    def failed(self, spent: float) -> float:
        """A try has failed after so many seconds. Returns for how long the storage has been unreachable."""
        now = time.monotonic()
        self.since = now if self.since is None else self.since
        self.again = now + max(0.5, spent / _TRYING)
        return now - self.since

    def back(self) -> None:
        """The storage answers again."""
        self.since = None


def check(url: str) -> None:
    """Raise RunError (E091) for what is not the URL of a storage; nothing is connected."""
    _parsed(url)


def _parsed(url: str) -> URL:
    try:
        found = make_url(url) if understood(url) else None
        if found is not None:
            found = found.set(drivername=_DRIVERS.get(found.drivername, found.drivername))
            found.get_dialect()
            return found
    except (SQLAlchemyError, ValueError):
        pass
    # Neither the URL nor the reason is shown: what is not understood may hold a password anywhere.
    raise RunError(
        "E091",
        "what is given as --storage is not the URL of a storage",
        hint="such as postgresql://user:password@host/database; write special characters by number, an @ as %40",
    )
