"""Start processes on this machine that train together. The process that starts them waits and takes no part.

They are new interpreters, not copies of this one: a fork would share the threads, locks and devices of this process,
and `multiprocessing` would run the main program once more in each. None outlives the process that started it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import torch

from bcgraph.errors import BcgraphError, RunError
from bcgraph.machine import refusal
from bcgraph.training.distributed import local

Send: TypeAlias = Callable[[Any], None]
"""Sends a message to the process that waits."""

# Seconds within which the death of a process shows, once another has failed because of it.
_GRACE = 0.5


class Target(Protocol):
    """What each process runs. It is pickled."""

    def __call__(self, send: Send, /) -> None:
        """Run. The environment has the rank of this process, where Fabric finds it (`LightningEnvironment`)."""


@dataclass(eq=False)
class _Process:
    handle: subprocess.Popen[bytes]
    pipe: Connection[Any, Any]


def run(target: Target, number: int, receive: Send) -> None:
    """Run `target` in `number` processes at once; `receive` is called, in this process, with the messages they send.

    Together they have as many threads as this process. When one fails, or this process is interrupted, all are
    killed. Raises the BcgraphError of the first that has one; RunError (E093) when a process is lost.
    """
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        # Removed after all that is in it has been killed.
        folder = tempfile.TemporaryDirectory(prefix=local.PREFIX, ignore_cleanup_errors=True)
        environment = _environment(number, Path(stack.enter_context(folder)))
        processes: list[_Process] = []
        stack.callback(_kill, processes)
        for rank in range(number):
            processes.append(_started(environment | {"LOCAL_RANK": str(rank)}, errors))
        for process in processes:
            # One that has ended already is noticed below.
            with suppress(OSError):
                process.pipe.send((target, int(environment["OMP_NUM_THREADS"])))
        running = {process.pipe: process for process in processes}
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                process = running[pipe]
                try:
                    what, content = pipe.recv()
                except (EOFError, OSError):
                    raise _lost(process, errors) from None
                if what == "message":
                    receive(content)
                elif what == "done":
                    del running[pipe]
                elif what == "error":
                    raise content
                else:
                    others = [other for other in processes if other is not process]
                    if (killed := _killed(others)) is not None:
                        raise _lost(killed, errors)
                    raise RuntimeError(f"a process that trains has failed:\n{content}")


def _environment(number: int, folder: Path) -> dict[str, str]:
    """The environment variables by which the processes find each other, in a file of this folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return (
        os.environ
        | local.environment(folder)
        | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "NODE_RANK": "0",
            "WORLD_SIZE": str(number),
            # Fabric sets the number of threads unless this is set.
            "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // number)),
        }
    )


def _started(environment: dict[str, str], errors: IO[bytes]) -> _Process:
    ours, theirs = Pipe()
    # Ctrl-C reaches them too, but it is this process that ends them.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        f"sys.path[:] = {sys.path!r}; from {__name__} import main; main({theirs.fileno()})"
    )
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(theirs.fileno(),),
        )
    return _Process(process, ours)


def _kill(processes: list[_Process]) -> None:
    """Kill all at once: a process that waits in a collective reacts to nothing gentler."""
    for process in processes:
        process.handle.kill()
    for process in processes:
        process.handle.wait()
        process.pipe.close()


def _killed(processes: list[_Process]) -> _Process | None:
    """A process that a signal has ended, or None."""
    until = time.monotonic() + _GRACE
    while True:
        for process in processes:
            if (process.handle.poll() or 0) < 0:
                return process
        if time.monotonic() > until:
            return None
        time.sleep(0.01)


def _lost(process: _Process, errors: IO[bytes]) -> RunError:
    # It has closed its end of the pipe, so it is about to end.
    code = process.handle.wait()
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    errors.seek(0)
    said = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return RunError(
        "E093",
        f"a process that trains was ended {how}",
        notes=said[-1:] if code >= 0 else (),
        hint="if memory has run out, fewer devices may help; the same command resumes",
    )


def main(handle: int) -> None:
    """The program of a started process; `handle` is its end of the pipe to the one that waits."""
    pipe: Connection[Any, Any] = Connection(handle)
    target, threads = pipe.recv()
    watching = threading.Thread(target=_watch, args=(pipe,), daemon=True)
    watching.start()
    torch.set_num_threads(threads)
    try:
        target(lambda content: pipe.send(("message", content)))
        pipe.send(("done", None))
    except BcgraphError as error:
        pipe.send(("error", error))
    except Exception as error:
        refused = refusal(error)
        pipe.send(("bug", traceback.format_exc()) if refused is None else ("error", refused))
    # The others may still be in a collective with this process, so it waits to be killed with them.
    watching.join()


def _watch(pipe: Connection[Any, Any]) -> None:
    """End with the process that waits: all that comes from it now is the end of the pipe."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os._exit(1)
