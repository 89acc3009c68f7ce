"""Processes of this machine that train together while the one that started them waits: it takes no part itself.

They are new interpreters, not copies of this one: a fork would share the threads, locks and devices of this process,
and what `multiprocessing` spawns runs the main program once more. None outlives the process that started it.
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
from typing import IO, Any, Protocol, TypeAlias

import torch

from bcgraph.errors import BcgraphError, RunError

Tell: TypeAlias = Callable[[Any], None]
"""Takes something that the process which waits should hear."""

# Seconds in which the death of one process shows, after which the others fail for want of it.
_SHOWS = 0.5


class Job(Protocol):
    """What each of the processes does. It is pickled."""

    def __call__(self, tell: Tell, /) -> None:
        """Do it. Fabric finds in the environment who this process is (`LightningEnvironment`)."""


@dataclass(eq=False)
class _Member:
    process: subprocess.Popen[bytes]
    line: Connection[Any, Any]


def run(job: Job, number: int, hear: Tell) -> None:
    """`job` in `number` processes at once; `hear` is called, in this process, with what they tell.

    Together they have as many threads as this process. Where one of them fails, or this process is interrupted, all
    are ended. Raises the BcgraphError of the first that has one; RunError (E093) when a process is lost.
    """
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        environment = _environment(number)
        members: list[_Member] = []
        stack.callback(_end, members)
        for rank in range(number):
            members.append(_started(environment | {"LOCAL_RANK": str(rank)}, errors))
        for member in members:
            # One that has ended by now is found out about below.
            with suppress(OSError):
                member.line.send((job, int(environment["OMP_NUM_THREADS"])))
        at_work = {member.line: member for member in members}
        while at_work:
            for line in wait(list(at_work)):
                assert isinstance(line, Connection)
                member = at_work[line]
                try:
                    what, content = line.recv()
                except (EOFError, OSError):
                    raise _lost(member, errors) from None
                if what == "told":
                    hear(content)
                elif what == "done":
                    del at_work[line]
                elif what == "fault":
                    raise content
                else:
                    others = [other for other in members if other is not member]
                    if (fallen := _fallen(others)) is not None:
                        raise _lost(fallen, errors)
                    raise RuntimeError(f"a process that trains has failed:\n{content}")


def _environment(number: int) -> dict[str, str]:
    """The environment variables by which the processes find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(number),
        # Lightning leaves the number of threads alone where this is set.
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // number)),
    }


def _started(environment: dict[str, str], errors: IO[bytes]) -> _Member:
    ours, theirs = Pipe()
    # Ctrl-C reaches them too, and it is for this process to say what follows.
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
    return _Member(process, ours)


def _end(members: list[_Member]) -> None:
    """End all at once: one that waits for another would not hear of anything gentler."""
    for member in members:
        member.process.kill()
    for member in members:
        member.process.wait()
        member.line.close()


def _fallen(members: list[_Member]) -> _Member | None:
    """A process that a signal has ended, if there is one."""
    until = time.monotonic() + _SHOWS
    while True:
        for member in members:
            if (member.process.poll() or 0) < 0:
                return member
        if time.monotonic() > until:
            return None
        time.sleep(0.01)


def _lost(member: _Member, errors: IO[bytes]) -> RunError:
    # It has closed its end of the line, as the last thing that it does.
    code = member.process.wait()
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    errors.seek(0)
    said = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return RunError(
        "E093",
        f"a process that trains was ended {how}",
        notes=said[-1:] if code >= 0 else (),
        hint="if memory has run out, fewer devices may help; the same command goes on from here",
    )


def main(handle: int) -> None:
    """What a started process runs; `handle` is its end of the line to the one that waits."""
    line: Connection[Any, Any] = Connection(handle)
    job, threads = line.recv()
    watching = threading.Thread(target=_watch, args=(line,), daemon=True)
    watching.start()
    torch.set_num_threads(threads)
    try:
        job(lambda content: line.send(("told", content)))
        line.send(("done", None))
    except BcgraphError as error:
        line.send(("fault", error))
    except Exception:
        line.send(("bug", traceback.format_exc()))
    # Until it is ended with the others, which may still be at their last exchange with it.
    watching.join()


def _watch(line: Connection[Any, Any]) -> None:
    """End with the process that waits: nothing comes from it any more but the end of the line."""
    with suppress(EOFError, OSError):
        line.recv()
    os._exit(1)
