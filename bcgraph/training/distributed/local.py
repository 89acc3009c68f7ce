"""How processes of this machine find each other: by a file of this user, and on the loopback interface alone."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

STORE = "BCGRAPH_STORE"
"""The environment variable that names the file in which they meet; processes that are started inherit it."""

PREFIX = "bcgraph-"
"""How the names of temporary folders begin."""

PATIENCE = 5.0
"""Seconds for which the first process waits at its end for the others to leave."""

_FILE = "store"

# Interfaces that the backends may use; what the user has set stays.
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_LOOPBACK = ("lo", "lo0")

_MEETING = 1800.0
"""Seconds after which torch is left to wait, and to say who is missing: as long as it waits itself."""

# What launchers set. Whoever sets it has decided where the processes meet.
_ELSEWHERE = ("MASTER_ADDR", "LOCAL_RANK", "RANK")


def meet() -> None:
    """Have the processes that this one starts meet here, and with it, unless a launcher has said where."""
    if STORE not in os.environ and not any(name in os.environ for name in _ELSEWHERE):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        atexit.register(_remove, folder)
        os.environ.update(environment(folder))


def _remove(folder: Path) -> None:
    """Remove the folder after the last process has left, which removes the file; or after some seconds.

    A process that leaves looks whether the file is there, and opens it. If it vanishes in between, torch waits for it
    for minutes and then aborts the process.
    """
    until = time.monotonic() + PATIENCE
    while (folder / _FILE).exists() and time.monotonic() < until:
        time.sleep(0.005)
    shutil.rmtree(folder, ignore_errors=True)


def environment(folder: Path) -> dict[str, str]:
    """The variables by which the processes of one group meet in a file of this folder."""
    found = {STORE: str(folder / _FILE)}
    name = _loopback()
    if name is not None:
        found |= {variable: name for variable in _INTERFACES if variable not in os.environ}
    return found


def wait_for_all(store: str, rank: int, number: int) -> None:
    """Wait until `number` processes are here. Torch would wait for them too, but Ctrl-C would not end that."""
    Path(f"{store}.{rank}").touch()
    until = time.monotonic() + _MEETING
    while not all(Path(f"{store}.{other}").exists() for other in range(number)) and time.monotonic() < until:
        time.sleep(0.02)


def _loopback() -> str | None:
    with suppress(OSError, AttributeError):
        names = [name for _, name in socket.if_nameindex()]
        return next((name for name in _LOOPBACK if name in names), None)
    return None
