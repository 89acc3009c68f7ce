"""The rows of the other benchmarks on a GPU, and those of `gpu_steps`, in less than eight minutes.

`python -m benchmarks gpu` writes `benchmarks/gpu.csv` after each part. Without a GPU there are no rows.

Both sides are in one process and in turns, and the clock stops when the GPU has finished. Memory is what torch's
allocator has handed out at most, above what the idle model takes.
"""

from __future__ import annotations

import csv
import gc
import io
import itertools
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

import bcgraph
from bcgraph.files import write_text
from bcgraph.nn.graphs.capture import CudaCapture
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.space.search_space import architecture_of
from bcgraph.search.supernet.at_once import fitting
from bcgraph.search.supernet.one_shot import OneShot
from benchmarks import gpu_steps
from benchmarks.harness import Row, elapsed, medians, show
from benchmarks.inference import raw_calls
from benchmarks.networks import images, resnet18, settle
from benchmarks.scoring import BATCH as SCORED
from benchmarks.scoring import MEASURES, candidates, fresh, in_turn
from benchmarks.supernet import SAMPLES, alone, prepared, step
from benchmarks.training import BATCH, build, stepper

TIMES = 10
"""Calls that are timed together."""


SECONDS = 420
"""After this time no further part begins, so that all is done within eight minutes."""

TABLE = Path("benchmarks/gpu.csv")
"""Written anew after each part; the variable GPU_TABLE names another place."""


def parts() -> Iterator[tuple[str, Callable[[], Iterable[Row]]]]:
    """What is measured, the most wanted first."""
    for precision in gpu_steps.PRECISIONS:
        yield f"inference, {precision}", partial(gpu_steps.inference, precision)
        yield f"training, {precision}", partial(gpu_steps.training, precision)
    yield "training, batch 128", partial(gpu_steps.training, "bf16", 128)
    yield "training, batch 128, no connection", partial(gpu_steps.training, "bf16", 128, feedback=False)
    yield "scoring", scoring
    yield "supernet", supernet
    yield "supernet, training", supernet_steps
    yield "as before graphs", lambda: [*inference(), *training()]
    for batch, steps in ((8, 4), (256, 4), (32, 1), (32, 16)):
        yield f"inference, batch {batch}, T = {steps}", partial(gpu_steps.inference, "bf16", batch, steps)
        yield f"training, batch {batch}, T = {steps}", partial(gpu_steps.training, "bf16", batch, steps)


def run() -> list[Row]:
    if not torch.cuda.is_available():
        print("this machine has no GPU")
        return []
    device = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, torch {torch.__version__}"
    print(device, flush=True)
    started, found = time.perf_counter(), []
    for name, part in parts():
        if time.perf_counter() - started > SECONDS:
            print(f"not measured for lack of time: {name}", flush=True)
            continue
        try:
            rows = list(part())
        # What else there is to measure does not depend on it.
        except Exception as error:
            rows = [Row(name, "failed", str(error).strip().splitlines()[0], "", "")]
            traceback.print_exc()
        print(show(rows), flush=True)
        found += rows
        write(device, found)
        gc.collect()
        torch.cuda.empty_cache()
    return found


def write(device: str, rows: list[Row]) -> None:
    """Write the table, a row a figure, with the device in its first line."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow((f"what on {device}", "ours", "against", "ratio", "goal"))
    table.writerows((row.what, row.ours, row.against, row.ratio, row.goal) for row in rows)
    write_text(Path(os.environ.get("GPU_TABLE", TABLE)), text.getvalue())


def inference() -> list[Row]:
    """A forward pass, against its own convolutions and linear layers and against the peer."""
    rows = []
    with torch.no_grad():
        x = images(BATCH).cuda()
        last = x.to(memory_format=torch.channels_last)
        peer, trained = build("SpikingJelly").cuda(), build("unrolled").cuda()
        settle(peer, x)
        settle(trained, x)
        for schedule in ("unrolled", "folded"):
            ours = bcgraph.compile(resnet18(), schedule, inference=True, device="cuda")
            ours.load_state_dict(trained.state_dict())
            raw = raw_calls(ours, last)
            mine, calls, other = _medians(lambda ours=ours: ours(last), raw, lambda: peer(x))
            rows.append(_row(f"{schedule} / raw operations", mine, calls, mine / calls, "<= 1.05"))
            rows.append(_row(f"{schedule} / SpikingJelly", mine, other, mine / other, "<= 0.50"))
        models = [bcgraph.compile(resnet18(steps), inference=True, device="cuda") for steps in (16, 3)]
        sizes = [_peak(model, partial(model, last)) for model in models]
        rows.append(_megabytes("unrolled, memory: T = 16 / T = 3", *sizes, "does not grow"))
    return rows


def training() -> list[Row]:
    """A training step, time and memory, against the peer."""
    rows = []
    x = images(BATCH).cuda()
    peer = build("SpikingJelly").cuda()
    for schedule in ("unrolled", "folded"):
        ours = build(schedule).cuda()
        mine, other = _medians(stepper(ours, x), stepper(peer, x))
        rows.append(_row(f"training, {schedule} / SpikingJelly", mine, other, mine / other, "<= 0.67"))
        sizes = [_peak(model, stepper(model, x)) for model in (ours, peer)]
        rows.append(_megabytes(f"training, {schedule}, memory / SpikingJelly", *sizes, "<= 0.40"))
    return rows


def scoring() -> list[Row]:
    """One candidate on from the trace, against a fresh model with a pass for each score."""
    rows = []
    x, y = images(SCORED).cuda(), (torch.arange(SCORED) % 10).cuda()
    for name, measures in MEASURES.items():
        score = fresh(x, y, measures)
        for precision in ("float32", "float64"):
            scorer = Scorer(ScoringBatch(x, y), 0, measures, precision=PRECISIONS[precision], device="cuda")
            next(scorer(candidates()[:1]))
            mine, against = _medians(in_turn(lambda one, scorer=scorer: next(scorer([one]))), in_turn(score))
            goal = {"N and E": ">= 5 x", "N alone": ">= 3 x"}[name] if precision == "float32" else ""
            rows.append(_row(f"{name}, {precision} / fresh model, float32", mine, against, against / mine, goal, " x"))
        several = replace(scorer, precision=PRECISIONS["float32"], at_once=fitting(resnet18()))
        many = candidates()[: several.at_once]
        list(several(many))
        mine, against = _medians(lambda several=several, many=many: list(several(many)), in_turn(score))
        what = f"{name}, float32, {len(many)} at once, each / fresh model"
        rows.append(_row(what, mine / len(many), against, against * len(many) / mine, ">= 10 x", " x"))
    return rows


def supernet() -> list[Row]:
    """Candidates on a supernet, against each as its own compiled model."""
    net, many = prepared("cuda")
    mine, other = medians(
        lambda: list(OneShot(net, net.split)(many)),
        lambda: [alone(net, candidate) for candidate in many],
        repeats=3,
        timed=_timed,
    )
    what = f"{len(many)} candidates, {SAMPLES} samples / each compiled"
    rows = [_row(what, mine, other, other / mine, ">= 2 x", " x")]
    shot = OneShot(net, net.split, at_once=min(len(many), fitting(resnet18())))
    (mine,) = medians(lambda: list(shot(many)), repeats=3, timed=_timed)
    rows.append(_row(f"{what}, {shot.at_once} at once", mine, other, other / mine, ">= 6 x", " x"))
    return rows


def supernet_steps() -> list[Row]:
    """A training step of a supernet, each of another architecture, against the peer's hand-wired ones."""
    from benchmarks.peer import Peer

    net, many = prepared("cuda")
    x = images(BATCH).cuda()
    peers = itertools.cycle([stepper(Peer(each.steps, architecture_of(each)).cuda(), x) for each in many[:4]])
    captured, plain, theirs = _medians(
        step(net.paths(CudaCapture), net, many, x), step(net.paths(), net, many, x), lambda: next(peers)()
    )
    return [
        _row("supernet step, captured segments / hand-wired", captured, theirs, theirs / captured, ">= 3 x", " x"),
        _row("supernet step, segments / hand-wired", plain, theirs, theirs / plain, "", " x"),
    ]


def _timed(function: Callable[[], object]) -> float:
    def run() -> None:
        function()
        torch.cuda.synchronize()

    return elapsed(run)


def _medians(*functions: Callable[[], object]) -> list[float]:
    """Seconds of a call."""

    def often(function: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(TIMES):
                function()

        return run

    return [seconds / TIMES for seconds in medians(*map(often, functions), repeats=5, timed=_timed)]


def _peak(model: nn.Module, call: Callable[[], object]) -> float:
    """Megabytes that a call needs above the idle model."""
    call()
    torch.cuda.synchronize()
    for parameter in model.parameters():
        parameter.grad = None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _row(what: str, mine: float, other: float, ratio: float, goal: str, unit: str = "") -> Row:
    return Row(what, f"{mine * 1000:.1f} ms", f"{other * 1000:.1f} ms", f"{ratio:.2f}{unit}", goal)


def _megabytes(what: str, mine: float, other: float, goal: str) -> Row:
    return Row(what, f"{mine:.0f} MB", f"{other:.0f} MB", f"{mine / other:.2f}", goal)
