"""The code that runs in a worker process."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol, TypeAlias

from bcgraph.errors import RunError

Work: TypeAlias = Callable[[Any], Any]
"""Does one task. Tasks and results are small; large data travels with the workload."""


class Workload(Protocol):
    """The data that all tasks of a stage share. It travels to each worker once."""

    def start(self) -> Work:
        """Called in the worker: the function that does the tasks."""
        ...


@dataclass(frozen=True)
class Introduction:
    """Identifies a worker and what its numbers depend on. `node` is Ray's name of its machine, empty outside Ray."""

    host: str
    node: str
    pid: int
    versions: tuple[tuple[str, str], ...]
    processor: str

    @staticmethod
    def of_this_process(node: str = "") -> Introduction:
        """The introduction of the calling process."""
        import torch

        found = tuple((name, version(name)) for name in ("bcgraph", "torch", "numpy"))
        kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return Introduction(platform.node(), node, os.getpid(), found, kind)


def agreed(found: Introduction, own: Introduction) -> None:
    """Raise RunError (E093) where a process has other versions than this one."""
    if found.versions != own.versions:
        there, here = (", ".join(f"{n} {v}" for n, v in i.versions) for i in (found, own))
        raise RunError(
            "E093",
            f"a worker on `{found.host}` has other versions: {there} there, {here} here",
            hint="install the same versions on all machines of the cluster",
        )


class Worker:
    """The actor: holds a workload, and does its tasks one after the other on `threads` threads."""

    def __init__(self, threads: int) -> None:
        import torch

        # The number of threads decides in which order float32 sums are added, so it is the same for all.
        torch.set_num_threads(threads)
        self.work: Work | None = None

    def take(self, workload: Workload) -> Introduction:
        """Replace the workload."""
        import ray

        self.work = None
        self.work = workload.start()
        return Introduction.of_this_process(ray.get_runtime_context().get_node_id())

    def do(self, task: Any) -> tuple[Any, float]:
        """The result of a task, and the seconds that it took."""
        assert self.work is not None
        started = time.perf_counter()
        result = self.work(task)
        return result, time.perf_counter() - started
