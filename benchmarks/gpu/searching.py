"""What a search does on a GPU: scoring, supernet steps, evaluations on it, and the paper's whole search of these."""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bcgraph import search, training
from bcgraph.data.augment import images
from bcgraph.data.sources import DataSet, Held, Part
from bcgraph.data.split import Split, Splits
from bcgraph.nn.graphs.capture import CudaCapture
from bcgraph.schema import NetworkSpec
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.space.search_space import Architecture, architecture_of
from bcgraph.search.supernet.at_once import fitting
from bcgraph.search.supernet.one_shot import OneShot
from bcgraph.search.supernet.supernet import Supernet
from bcgraph.training.distributed.devices import process_group
from bcgraph.training.options import Precision
from benchmarks.gpu.measure import finished, ratio, seconds, timed, told
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.steps import stepper
from benchmarks.harness import Row
from benchmarks.networks import settle
from benchmarks.scoring import MEASURES, fresh
from benchmarks.supernet import alone, step

SEARCH = {"pool": 2000, "epochs": 100, "images": 40_000, "evaluations": 420, "validation": 10_000}
"""The paper's search (section 5.1): candidates scored, and epochs, images, evaluations of the supernet."""

SCORING, STEP, EVALUATION = "seconds a candidate", "seconds an image of a step", "seconds an image of an evaluation"
EPOCH = "seconds between two epochs"
"""What the whole search is reckoned from."""

HOW: dict[str, Precision] = {"tf32": "32", "bf16": "bf16-mixed"}
"""The precisions in which a supernet trains, by their names in rows."""

TYPES = {"tf32": "float32", "bf16": "int16"}
"""The types of scores and accuracies that go with them."""

OPTIONS = "--precision bf16-mixed --score-dtype int16 --accuracy-dtype int16"

LONGEST = 20 * 60.0

Known = dict[str, float]
"""Figures that a later part needs."""


def scoring(plan: Plan, known: Known) -> Iterator[Row]:
    """A candidate, scored alone and with others in one pass, against a fresh model with a pass for each score."""
    x, y = plan.images(plan.scored), (torch.arange(plan.scored) % 10).to(plan.device)
    many = _candidates(plan)
    has_peer = plan.peer() is not None
    for name, measures in MEASURES.items():
        other = fresh(x, y, measures, **plan.shape) if has_peer else None
        following = itertools.cycle(many)
        against = None if other is None else timed(plan, lambda other=other, ks=following: other(next(ks)))[0]
        together = _at_once(plan)
        for precision, several in (("float32", 1), ("float32", together), ("int16", together), ("float64", 1)):
            kind = PRECISIONS[precision]
            scorer = Scorer(ScoringBatch(x, y), 0, measures, precision=kind, device=plan.device, at_once=several)
            list(scorer(many))
            mine = seconds(plan, lambda scorer=scorer: list(scorer(many))) / len(many)
            goal = ">= 10 x" if name == "N and E" and several > 1 else ""
            if name == "N and E" and precision in TYPES.values():
                part = f"{SCORING}, {precision}"
                known[part] = min(mine, known.get(part, mine))
            what = f"{name}, {precision}, {several} at once, a candidate"
            if against is None:
                yield Row(what, told(mine), "", "", goal)
            else:
                yield ratio(f"{what} / fresh model", mine, against, goal, faster=True)


def supernet_step(plan: Plan, known: Known) -> Iterator[Row]:
    """A step of the supernet, each of another architecture, against the peer's step of one wired by hand.

    What an epoch costs besides its steps stands apart: the paper's have many times as many steps as this one.
    """
    peer = plan.peer()
    for name, precision in HOW.items():
        mine = _supernet_steps(plan, known, name, precision)
        what = f"supernet step, {name}, batch {plan.large}, a new architecture each / SpikingJelly, one wired by hand"
        goal = ">= 3 x"
        if peer is None:
            yield Row(what, told(mine), "", "", goal)
        else:
            (other,) = timed(plan, stepper(peer, plan.images(plan.large), name, captured=False))
            yield ratio(what, mine, other, goal, faster=True)
    yield Row("between two epochs of a supernet: its weights checked, its checkpoint", told(known[EPOCH]), "", "", "")


def _supernet_steps(plan: Plan, known: Known, name: str, precision: Precision) -> float:
    """Seconds for a step of the supernet; `known` learns them, and those between two epochs."""
    settings = f"data = digits(batch={plan.large})\nsearch {{ supernet {{ epochs = 2 }} }}"
    spec = plan.spec(feedback=False, more=settings)
    options = training.Options(plan.device, precision=precision)
    net = _Clocked(spec, 0, _read_as_images_are(plan), machine=options, device=plan.device)
    ends: list[float] = []

    def ended(_: object) -> None:
        finished(plan)
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        history = net.train(Path(folder), ended, process_group(options))
    steps = history[-1].steps
    begun = net.begun[-steps:]
    mine = (begun[-1] - begun[0]) / (steps - 1)
    known[f"{STEP}, {name}"] = mine / plan.large
    known[EPOCH] = max(0.0, ends[1] - ends[0] - steps * mine)
    return mine


def supernet_parts(plan: Plan) -> Iterator[Row]:
    """A step of the supernet by parts, captured and plain, without reading data."""
    net = Supernet(plan.spec(feedback=False), 0, _validation(plan), device=plan.device)
    many, x = _candidates(plan), plan.images()
    captured, plain = (step(net.paths(capture), net, many, x) for capture in (CudaCapture().apart, None))
    mine, other = timed(plan, captured, plain)
    yield ratio(f"supernet step, batch {plan.batch}, captured / plain", mine, other, "", faster=True)


def evaluation(plan: Plan, known: Known) -> Iterator[Row]:
    """Candidates on a supernet, one by one and in one pass, against each as its own compiled model."""
    validation = _validation(plan)
    net = Supernet(plan.spec(feedback=False), 0, validation, device=plan.device)
    many = _candidates(plan)
    for candidate in many:
        settle(net.model(architecture_of(candidate)), plan.images(8))
    list(OneShot(net, validation)(many[:2]))
    other = seconds(plan, lambda: [alone(net, candidate) for candidate in many])
    together = min(len(many), _at_once(plan))
    for weights, several in (("float32", 1), ("float32", together), ("int16", together)):
        shot = OneShot(net, validation, whole=weights == "int16", at_once=several)
        mine = seconds(plan, lambda shot=shot: list(shot(many)))
        cost = mine / len(many) / plan.samples
        part = f"{EVALUATION}, {weights}"
        known[part] = min(cost, known.get(part, cost))
        what = f"{len(many)} candidates, {weights}, {several} at once, {plan.samples} samples / each compiled"
        yield ratio(what, mine, other, ">= 6 x" if several > 1 else "", faster=True)


def whole(plan: Plan, known: Known) -> Iterator[Row]:
    """The paper's search at its own sizes, from what was measured: by default, and as fast as options allow."""
    for name, (how, kind) in {"by default": ("tf32", "float32"), OPTIONS: ("bf16", "int16")}.items():
        score, update, shot = f"{SCORING}, {kind}", f"{STEP}, {how}", f"{EVALUATION}, {kind}"
        if not {score, update, EPOCH, shot} <= known.keys():
            continue
        parts = {
            "scoring": SEARCH["pool"] * known[score],
            "supernet": SEARCH["epochs"] * (SEARCH["images"] * known[update] + known[EPOCH]),
            "evaluations": SEARCH["evaluations"] * SEARCH["validation"] * known[shot],
        }
        for part, cost in parts.items():
            yield Row(f"the paper's search, {name}, {part}", f"{cost / 60:.1f} min", "", "", "")
        total = sum(parts.values())
        share = f"{total / LONGEST:.2f}"
        what = f"the paper's search, {name}, reckoned from its parts"
        yield Row(what, f"{total / 60:.1f} min", "20 min", share, "<= 1")


def _candidates(plan: Plan) -> list[NetworkSpec]:
    rng = random.Random(0)
    return [search.sample(plan.spec(feedback=False), rng) for _ in range(plan.candidates)]


def _at_once(plan: Plan) -> int:
    """How many candidates a pass has."""
    return fitting(plan.spec(feedback=False)) if plan.device == "cuda" else plan.candidates


def _validation(plan: Plan) -> Split:
    found: Split = _Validation(plan)  # type: ignore[assignment]
    return found


class _Clocked(Supernet):
    """A supernet that notes when each of its steps begins."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.begun: list[float] = []

    def drawn(self, epoch: int, step: int) -> Architecture:
        """As before. Nobody waits for the device here: a step begins when the loss before the last has arrived."""
        self.begun.append(time.perf_counter())
        return super().drawn(epoch, step)


def _read_as_images_are(plan: Plan) -> Split:
    """Images without labels worth the name, held, changed and read ahead as those of CIFAR-10."""
    count = plan.updates * plan.large
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, plan.size, plan.size), dtype=np.uint8)
    part = Part(Held(pixels, 1 / 255), np.arange(count) % 10)
    names = tuple(str(number) for number in range(10))
    return Splits.of(DataSet("images", part, part, names, (0.5,) * 3, (0.25,) * 3, images(plan.size))).train


class _Validation:
    """The same, as a `Split` hands them out."""

    def __init__(self, plan: Plan) -> None:
        self.x, self.y = plan.images(plan.samples).cpu(), torch.arange(plan.samples) % 10

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.x[indices], self.y[indices]

    def batches(self, size: int) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.x.split(size), self.y.split(size), strict=True))
