"""The devices that options name, and the process group that computes on them.

One process on the CPU needs no Lightning Fabric, whose import takes seconds: it is loaded only where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, current_thread, main_thread
from typing import Any

from bcgraph.errors import RunError
from bcgraph.training.distributed.process_group import ProcessGroup, SingleProcess
from bcgraph.training.options import Options


def device_type(options: Options) -> str:
    """The kind of device, `cpu`, `cuda` or `mps`, where `auto` leaves it open; starts nothing.

    Raises RunError (E074) when this machine has no such devices, or too few.
    """
    if options.accelerator == "cpu":
        return "cpu"
    from bcgraph.training.distributed import fabric

    return fabric.device_type(options)


_SEVERAL = Lock()


@contextmanager
def one_at_a_time(options: Options) -> Iterator[None]:
    """Around a training run: with several devices, the only one of this program, and in its main thread.

    Each process runs the program by itself. Of two runs that are under way, one process could be in the first and
    another in the second, and both would wait for ever. Raises RunError (E074).
    """
    if options.devices == 1:
        yield
        return
    if current_thread() is not main_thread():
        raise _refused("they cannot train in a thread beside the main one")
    if not _SEVERAL.acquire(blocking=False):
        raise _refused("they cannot train in the middle of another training run on several devices")
    try:
        yield
    finally:
        _SEVERAL.release()


def _refused(why: str) -> RunError:
    return RunError(
        "E074",
        f"several devices run this program, one process each, and {why}",
        hint="train one network after the other in the main thread, or each in a program of its own",
    )


def needs_fabric(options: Options) -> bool:
    """Whether Lightning Fabric is needed: for several devices, for a GPU and for mixed precision."""
    return options.accelerator != "cpu" or options.devices > 1 or options.precision not in ("32", "64")


def process_group(
    options: Options, *, started: bool = False, apart: bool = False, captured: bool = False, **ddp: Any
) -> ProcessGroup:
    """The processes that share the work; with several devices all of them run after this call.

    `started` says that `bcgraph.training.distributed.launcher` has started them, `apart` that each of them has joined
    the others with one device of its own (`bcgraph.training.distributed.machines`), and `captured` that several
    processes exchange gradients in a way that a CUDA graph can hold. `ddp` are settings of torch's
    DistributedDataParallel. Raises RunError (E074) when this machine has no such devices, or too few, or when they
    cannot compute in that precision.
    """
    if not needs_fabric(options):
        return SingleProcess()
    from bcgraph.training.distributed import fabric

    return fabric.process_group(options, started=started, apart=apart, captured=captured, **ddp)
