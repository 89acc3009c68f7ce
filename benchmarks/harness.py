"""What all benchmarks share: timing two things in turns, and a table of the outcome."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bcgraph.cli.output import table


@dataclass(frozen=True)
class Row:
    """One figure: ours, what it is measured against, their ratio, and the goal for the ratio (or for ours alone)."""

    what: str
    ours: str
    against: str
    ratio: str
    goal: str


def best(function: Callable[[], object], repeats: int = 5) -> float:
    """The shortest of several runs, in seconds."""
    return best_of_each(function, repeats=repeats)[0]


def best_of_each(*functions: Callable[[], object], repeats: int = 5) -> list[float]:
    """The shortest run of each in seconds, taken in turns, so that a busy moment meets all of them alike."""
    shortest = [float("inf")] * len(functions)
    for _ in range(repeats):
        for index, function in enumerate(functions):
            started = time.perf_counter()
            function()
            shortest[index] = min(shortest[index], time.perf_counter() - started)
    return shortest


def elapsed(function: Callable[[], object]) -> float:
    """The seconds that one run takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def medians(
    *functions: Callable[[], Any], repeats: int = 5, timed: Callable[[Callable[[], Any]], float] = elapsed
) -> list[float]:
    """The median run of each in seconds, taken in turns after one run of each that does not count."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, found in zip(functions, times, strict=True):
            found.append(timed(function))
    return [statistics.median(found) for found in times]


def pair(module: str, ours: str, other: str) -> tuple[float, float]:
    """The medians of two contenders, in turns, each in a process that holds nothing else.

    What a process has held before decides how its allocator treats large tensors: beside a second contender's
    activations, one took up to twice its time. `module` has `contender(name) -> Callable[[], object]`.
    """
    first, second = several(module, ours, other)
    return first, second


def several(module: str, *names: str, repeats: int = 5) -> list[float]:
    """As `pair`, for any number of contenders."""
    with ExitStack() as stack:
        sides = [stack.enter_context(_contending(module, name)) for name in names]
        return medians(*sides, repeats=repeats, timed=lambda side: side())


@contextmanager
def _contending(module: str, name: str) -> Iterator[Callable[[], float]]:
    """A contender of `benchmarks.<module>` in a process of its own: a call lets it run once and gives its seconds."""
    code = "import sys; from benchmarks.harness import serve; serve(*sys.argv[1:])"
    command = [sys.executable, "-c", code, module, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        into, out = process.stdin, process.stdout
        assert into is not None
        assert out is not None

        def run() -> float:
            into.write("run\n")
            into.flush()
            return float(out.readline())

        yield run
        into.close()


def serve(module: str, name: str) -> None:
    """Run a contender once for each line of the standard input, and print its seconds.

    With OMP_NUM_THREADS=1 those of the processor, which other work on the machine does not lengthen.
    """
    run = import_module(f"benchmarks.{module}").contender(name)
    clock = time.process_time if os.environ.get("OMP_NUM_THREADS") == "1" else time.perf_counter
    for _ in sys.stdin:
        started = clock()
        run()
        print(clock() - started, flush=True)


def highest() -> int:
    """The largest resident size of this process so far, in KiB: since it began, unlike what `getrusage` tells."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def machine() -> str:
    """The machine and the versions that figures depend on."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = f"{_processor()} with {torch.backends.cpu.get_cpu_capability()}"
    return f"{processor}, {cores} cores, Python {platform.python_version()}, torch {version('torch')}"


def show(rows: list[Row]) -> str:
    """The rows as a table."""
    header = ("what", "bcgraph", "against", "ratio", "goal")
    return table(header, [(r.what, r.ours, r.against, r.ratio, r.goal) for r in rows], right=(1, 2, 3, 4))


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
