"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from bcgraph import interrupts
from bcgraph.errors import RunError

# Ray prints messages of its own parts to standard output, where a command's result belongs, and reads the only switch
# for that when it is imported. Its usage statistics stay off unless the user turns them on.
_QUIET: Mapping[str, str] = {"RAY_DEDUP_LOGS_SKIP_REGEX": ".*", "RAY_USAGE_STATS_ENABLED": "0"}

KNOCK = 10.0
"""Seconds in which a cluster must answer."""

OBJECTS = 2**29
"""Bytes of shared memory of a Ray that we start: for the weights, the batch and the validation data."""


def check() -> None:
    """Raise RunError (E092) unless Ray is installed."""
    if find_spec("ray") is None:
        raise RunError(
            "E092",
            "workers need `ray`, which is not installed",
            hint="pip install 'bcgraph[ray]', or search without --workers and --ray",
        )


@contextmanager
def joined(address: str | None, cpus: int) -> Iterator[None]:
    """Inside, this process is connected to the Ray cluster at `address`, or to a new one of `cpus` on this machine.

    A cluster started here ends with the block. An existing connection of the program is used and left open. Raises
    RunError: E092 when Ray is not installed, E093 when the cluster cannot be reached.
    """
    check()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECTS}
    # `address="local"` keeps Ray from joining a cluster that only the environment names.
    where: dict[str, Any] = {"address": "local", **own} if address is None else {"address": address}
    # Ray ends its process at SIGTERM, with a dump of its stack and without its workers, and breaks where an interrupt
    # meets it. What it starts ends with the thread that has started it.
    with interrupts.apart() as apart:
        try:
            try:
                _knock(address)
                apart(partial(ray.init, **where, log_to_driver=False, logging_level=logging.ERROR))
            except (OSError, OverflowError, RuntimeError, ValueError) as error:
                raise unreachable(address, error) from error
            yield
        finally:
            apart(ray.shutdown)


def _knock(address: str | None) -> None:
    """Raise OSError where an address names a machine that does not answer; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK).close()


def unreachable(address: str | None, error: Exception) -> RunError:
    """The error for a cluster that does not answer (E093)."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if address is None:
        return RunError("E093", f"Ray cannot be started on this machine: {first}")
    return RunError(
        "E093",
        f"there is no Ray cluster at `{address}`: {first}",
        hint="start one with `ray start --head`, join it here with `ray start --address=...`, and say `--ray auto`; "
        "where it asks for a token, set RAY_AUTH_MODE=token and copy ~/.ray/auth_token",
    )


def cores() -> int:
    """How many CPUs the cluster has; at least one."""
    return max(1, int(cpus()))


def cpus() -> float:
    """The CPUs of the cluster that this process is connected to."""
    import ray

    resources: Any = ray.cluster_resources
    return float(resources().get("CPU", 0))
