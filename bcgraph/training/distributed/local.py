"""How processes of this machine find each other: by a file of this user, and on the loopback interface alone."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

STORE = "BCGRAPH_STORE"
"""The environment variable that names the file in which they meet; processes that are started inherit it."""

# Interfaces that the backends may use; what the user has set stays.
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_LOOPBACK = ("lo", "lo0")

# What launchers set. Whoever sets it has decided where the processes meet.
_ELSEWHERE = ("MASTER_ADDR", "LOCAL_RANK", "RANK")


def meet() -> None:
    """Have the processes that this one starts meet here, unless a launcher has said where."""
    if STORE not in os.environ and not any(name in os.environ for name in _ELSEWHERE):
        os.environ.update(environment())


def environment() -> dict[str, str]:
    """The variables by which the processes of one group meet; their folder is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="bcgraph-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    found = {STORE: str(folder / "store")}
    name = _loopback()
    if name is not None:
        found |= {variable: name for variable in _INTERFACES if variable not in os.environ}
    return found


def _loopback() -> str | None:
    with suppress(OSError, AttributeError):
        names = [name for _, name in socket.if_nameindex()]
        return next((name for name in _LOOPBACK if name in names), None)
    return None
