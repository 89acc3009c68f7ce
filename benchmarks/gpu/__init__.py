"""A GPU: inference, training, scoring and the supernet, against raw operations, torch.compile and the peer.

`python -m benchmarks gpu` measures what design and users ask for first, in less than eight minutes, and writes the
measured part of docs/gpu.md and benchmarks/gpu.csv after each part. What no longer fits in the time is dropped and
named. `python -m benchmarks.gpu --resume` measures what the table lacks: a GPU may be there for minutes only.
`python -m benchmarks.gpu --dry` goes through all of it with a small network on the CPU.
"""

from __future__ import annotations

import gc
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from bcgraph.errors import BcgraphWarning
from benchmarks.gpu import compiled, page, profiled, searching, steps
from benchmarks.gpu.budget import Budget, OverrunError
from benchmarks.gpu.plan import Plan, first_line
from benchmarks.gpu.searching import Known
from benchmarks.harness import Row, machine, show


@dataclass(frozen=True)
class Part:
    """Something to measure, with the seconds that it needs at least."""

    name: str
    rows: Callable[[], Iterable[Row]]
    least: float = 15.0


def parts(plan: Plan) -> list[Part]:
    """What is measured, the most wanted first: each goal once, then again in other precisions and sizes."""
    known: Known = {}
    first, *others = plan.precisions
    large = (plan.large, plan.steps)
    found = [
        *_both(plan, first),
        Part(f"training, batch {plan.large}", partial(steps.training, plan, "bf16", *large)),
        Part("training without a connection", partial(steps.training, plan, "bf16", *large, feedback=False)),
        Part("scoring", partial(searching.scoring, plan, known), 25),
        Part("supernet steps", partial(searching.supernet_step, plan, known), 25),
        Part("evaluations on the supernet", partial(searching.evaluation, plan, known), 25),
        Part("the paper's whole search", partial(searching.whole, plan, known), 1),
    ]
    for precision in others:
        found += _both(plan, precision)
    found += [
        Part("where the time goes", partial(profiled.training, plan)),
        Part("supernet steps by parts", partial(searching.supernet_parts, plan)),
        Part("neurons against torch.compile", partial(compiled.neurons, plan), 30),
        Part("the time to compile", partial(compiled.times, plan)),
    ]
    for batch, count in plan.sweep:
        found += [
            Part(f"inference, batch {batch}, T = {count}", partial(steps.inference, plan, "bf16", batch, count)),
            Part(f"training, batch {batch}, T = {count}", partial(steps.training, plan, "bf16", batch, count)),
        ]
    return [
        *found,
        Part("inference against torch.compile", partial(compiled.inference, plan), 60),
        Part("training against torch.compile", partial(compiled.training, plan), 100),
    ]


def _both(plan: Plan, precision: str) -> list[Part]:
    size = (plan.batch, plan.steps)
    return [
        Part(f"inference, {precision}", partial(steps.inference, plan, precision, *size)),
        Part(f"training, {precision}", partial(steps.training, plan, precision, *size)),
    ]


def measure(
    plan: Plan,
    where: Path = page.PAGE,
    table: Path = page.TABLE,
    budget: Budget | None = None,
    *,
    resume: bool = False,
) -> tuple[list[Row], list[str]]:
    """Measure all parts that the time allows; returns their rows, and what was dropped or has failed.

    With `resume` parts that stand in `table` are not measured again. Raises ValueError where it is of another device.
    """
    device = name_of(plan)
    print(device, flush=True)
    budget = budget or Budget(plan.seconds)
    every = parts(plan)
    order = {part.name: place for place, part in enumerate(every)}
    # Parts that failed stand there under other names.
    done = [each for each in page.read_table(table, device) if each[0] in order] if resume else []
    known = {name for name, _ in done}
    dropped: list[str] = []
    failed: dict[str, str] = {}
    for part in every:
        if part.name in known:
            continue
        if not budget.allows(part.least if plan.patient else 0.0):
            dropped.append(part.name)
            print(f"not measured for lack of time: {part.name}", flush=True)
            continue
        rows: list[Row] = []
        try:
            with budget.limit(), _saying(rows):
                rows.extend(part.rows())
        except OverrunError:
            failed[part.name] = f"{part.name} (stopped when the time was over)"
            dropped.append(failed[part.name])
        # What else there is to measure does not depend on it.
        except Exception as error:
            failed[part.name] = f"{part.name} (failed: {first_line(error)})"
            dropped.append(failed[part.name])
            traceback.print_exc()
        if rows:
            done.append((part.name, rows))
            done.sort(key=lambda each: order[each[0]])
            print(f"{part.name}\n{show(rows)}", flush=True)
        page.write(where, page.section(device, done, dropped))
        page.write_table(table, device, [(failed.get(name, name), found) for name, found in done])
        gc.collect()
        torch.compiler.reset()
        if plan.device == "cuda":
            torch.cuda.empty_cache()
    page.write(where, page.section(device, done, dropped))
    return [row for _, rows in done for row in rows], dropped


@contextmanager
def _saying(rows: list[Row]) -> Iterator[None]:
    """Adds what is said of us inside: a call that could not be captured has other figures than one that was."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", BcgraphWarning)
        try:
            yield
        finally:
            told = dict.fromkeys(str(each.message) for each in said if isinstance(each.message, BcgraphWarning))
            rows.extend(Row(f"warning: {text}", "", "", "", "") for text in told)


def name_of(plan: Plan) -> str:
    """The device, and the versions that figures depend on."""
    if plan.device == "cuda":
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, {machine()}"
    return f"the CPU, a dry run: {machine()}"


def run() -> list[Row]:
    """All rows, where there is a GPU."""
    if not torch.cuda.is_available():
        print("this machine has no GPU")
        return []
    return measure(Plan())[0]
