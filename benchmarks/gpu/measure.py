"""Times and memory of calls on a device, in turns and in one process; the clock stops when the device has finished."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch

from bcgraph.nn.determinism import full_precision
from benchmarks.gpu.plan import Plan
from benchmarks.harness import Row, elapsed, medians

Call = Callable[[], object]


@contextmanager
def computing(precision: str, device: str) -> Iterator[None]:
    """Inside, convolutions compute in `tf32` (torch's default), `float32` or, under autocast, `bf16`."""
    with ExitStack() as stack:
        if precision == "float32":
            stack.enter_context(full_precision())
        if precision == "bf16":
            stack.enter_context(torch.autocast(device, torch.bfloat16))
        yield


def finished(plan: Plan) -> None:
    """Wait for the device."""
    if plan.device == "cuda":
        torch.cuda.synchronize()


def seconds(plan: Plan, call: Call) -> float:
    """Seconds of one call."""

    def run() -> None:
        call()
        finished(plan)

    return elapsed(run)


LONG = 0.3
"""Seconds of one call in a row after which it is not repeated further."""


def timed(plan: Plan, *calls: Call) -> list[float]:
    """Seconds of each call, the median of rounds in turns. In a round a short call runs `plan.times` in a row."""
    # The first two compile and capture.
    times = [_times(plan, min(seconds(plan, call) for _ in range(3))) for call in calls]

    def often(call: Call, times: int) -> Call:
        def run() -> None:
            for _ in range(times):
                call()
            finished(plan)

        return run

    found = medians(*map(often, calls, times), repeats=plan.rounds, timed=elapsed)
    return [one / count for one, count in zip(found, times, strict=True)]


def _times(plan: Plan, once: float) -> int:
    return max(1, min(plan.times, round(LONG / once)))


def peak(plan: Plan, call: Call) -> float | None:
    """Megabytes that a call holds at most above what is held before it; None off a GPU.

    Not of a captured call: its capture holds all that it needs before it.
    """
    if plan.device != "cuda":
        return None
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def compared(
    plan: Plan,
    what: str,
    ours: Call,
    sides: Mapping[str, tuple[Call, str]],
    *,
    plain: Call | None = None,
    faster: bool = False,
) -> Iterator[Row]:
    """A row for each side and its goal, in time, and in the memory of `plain`, which does without a capture what we do.

    With `faster` the ratio says how many times faster ours is.
    """
    found = timed(plan, ours, *(call for call, _ in sides.values()))
    for (name, (_, goal)), other in zip(sides.items(), found[1:], strict=True):
        yield ratio(f"{what} / {name}", found[0], other, goal, faster=faster)
    mine = None if plain is None else peak(plan, plain)
    for name, (call, _) in sides.items():
        size = None if mine is None or call is plain or name.endswith("captured") else peak(plan, call)
        if mine is not None and size is not None:
            goal = "<= 0.40" if faster and "SpikingJelly" in name else ""
            share = f"{mine / size:.2f}" if size else "-"
            yield Row(f"{what}, memory without a capture / {name}", f"{mine:.0f} MB", f"{size:.0f} MB", share, goal)


def ratio(what: str, mine: float, other: float, goal: str, *, faster: bool) -> Row:
    """A row of two times."""
    share = f"{other / mine:.2f} x" if faster else f"{mine / other:.2f}"
    return Row(what, told(mine), told(other), share, goal)


def told(seconds: float) -> str:
    """A time in its unit."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"
