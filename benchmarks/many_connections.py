"""ResNet-18 with all its 153 backward connections against none: merged, as they are by default, and one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

import bcgraph
from bcgraph.compiler import pipelines
from benchmarks.harness import Row, several
from benchmarks.networks import images, resnet18
from benchmarks.training import stepper

BATCH = 4
EVERY = tuple((source, target) for source in range(17) for target in range(source + 1))
MERGING = ("merge_projections", "fold_sums", "defer_sums")
GOALS = {"training": 2.0, "inference": 1.8}


def passes(purpose: str, *, merge: bool) -> list[str]:
    """The passes for `purpose`, with or without those that merge connections."""
    names = pipelines.INFERENCE if purpose == "inference" else pipelines.TRAINING
    return [name for name in names if merge or name not in MERGING]


def contender(name: str) -> Callable[[], object]:
    """`PURPOSE.KIND`: training or inference; none, merged or single."""
    purpose, kind = name.split(".")
    spec = resnet18(backward=() if kind == "none" else EVERY)
    optimize = passes(purpose, merge=kind != "single")
    model = bcgraph.compile(spec, optimize=optimize, inference=purpose == "inference")
    x = images(BATCH)
    return stepper(model, x) if purpose == "training" else torch.no_grad()(lambda: model(x))


def states(merge: bool) -> tuple[int, int]:
    """How many states the step form of a network in training has, and how many values they hold for a sample."""
    optimize = passes("training", merge=merge)
    found = pipelines.program(resnet18(backward=EVERY), "step", optimize).states
    return len(found), sum(math.prod(state.shape) for state in found)


def run() -> list[Row]:
    rows = []
    for purpose, goal in GOALS.items():
        none, merged, single = several("many_connections", *(f"{purpose}.{k}" for k in ("none", "merged", "single")))
        against = f"{none:.2f} s"
        rows.append(Row(f"{purpose} / none", f"{merged:.2f} s", against, f"{merged / none:.2f}", f"<= {goal:.1f}"))
        rows.append(Row(f"{purpose}, one by one / none", f"{single:.2f} s", against, f"{single / none:.2f}", ""))
    (count, values), (counts, before) = states(merge=True), states(merge=False)
    rows.append(Row("states of a step / one by one", f"{count}", f"{counts}", f"{count / counts:.2f}", ""))
    rows.append(Row("values in them", f"{values:,}", f"{before:,}", f"{values / before:.2f}", ""))
    return rows
