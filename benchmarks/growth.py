"""How long a search takes with more and more workers: a simulation driven by measured costs.

`python -m benchmarks.growth measure [PART...]` measures the costs (minutes) into `growth.json`, and
`python -m benchmarks.growth` plays the driver and its workers with them, task by task as the driver really cuts them,
and draws `docs/scaling.svg`.
"""

from __future__ import annotations

import heapq
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from bcgraph.search.distributed.chunks import Chunks
from bcgraph.search.distributed.tasks import tiles

HERE = Path(__file__).parent
COSTS = HERE / "growth.json"
PICTURE = HERE.parent / "docs" / "scaling.svg"
WORKERS = tuple(2**k for k in range(11))

SPACE = 14_707
POOL, KEEP, ITERATIONS, POPULATION = 2000, 20, 20, 20
TRAINING, VALIDATION, BATCH, EPOCHS = 40_000, 10_000, 128, 100


@dataclass(frozen=True)
class Costs:
    """Measured seconds of processor time, on one thread unless said otherwise: others on the machine hardly matter."""

    machine: str
    start: float  # a process that loads all that a worker needs
    hand: float  # of the driver, for each task
    keep: float  # of the driver, for each evaluation: log and study
    scores18: tuple[float, ...]  # N and E of a candidate, ResNet-18
    trace18: float  # of the scoring batch, once a worker
    scores19: tuple[float, ...]  # the same, ResNet-19
    trace19: float
    batch: int  # samples in a validation batch
    forward: float  # the trace of a validation batch
    accuracies: tuple[float, ...]  # a candidate on such a batch
    step: float  # a training step of the supernet, on two cores that are both used to the full


def simulate(chunks: Chunks, workers: int, costs: Sequence[float], once: float, start: float, c: Costs) -> float:
    """Seconds until the last item of `chunks` is kept. An item takes one of `costs`, in turn; each worker `once` more.

    The driver hands out and keeps one thing at a time, so it is a server with a queue of its own. Workers hold one task
    more than they do, so that they wait for the driver only if it is behind.
    """
    free = [(start, i) for i in range(workers)]
    heapq.heapify(free)
    fresh = set(range(workers))
    driver = end = 0.0
    while (chunk := chunks.draw()) is not None:
        at, worker = heapq.heappop(free)
        driver = driver + c.hand + c.keep * len(chunk)
        seconds = sum(costs[i % len(costs)] for i in chunk)
        done = max(at, driver) + seconds + (once if worker in fresh else 0.0)
        fresh.discard(worker)
        chunks.took(chunk, seconds)
        end = max(end, done)
        heapq.heappush(free, (done, worker))
    return end


def population(workers: int, count: int, c: Costs) -> float:
    """Seconds for the accuracies of one population, by tasks that are a group of candidates on a stretch of data."""
    tasks = tiles(count, VALIDATION, c.batch, workers)
    free = [0.0] * workers
    driver = 0.0
    for group, samples in tasks:
        driver += c.hand
        batches = -(-len(samples) // c.batch)
        seconds = batches * (c.forward + sum(c.accuracies[i % len(c.accuracies)] for i in group))
        heapq.heappush(free, max(heapq.heappop(free), driver) + seconds)
    return max(free) + count * c.keep


def search(workers: int, c: Costs) -> dict[str, float]:
    """The stages of the paper's search on CIFAR-100 with ResNet-18, in seconds."""
    pool = simulate(Chunks(range(POOL), workers), workers, c.scores18, c.trace18, c.start, c)
    populations = [KEEP] + [POPULATION] * ITERATIONS
    return {
        "scoring the pool": pool,
        "training the supernet": EPOCHS * -(-TRAINING // BATCH) * c.step,
        "evolution": sum(population(workers, count, c) for count in populations),
    }


def exhaustive(workers: int, c: Costs) -> float:
    """Seconds for the scores of the whole space of ResNet-19 with two connections."""
    return simulate(Chunks(range(SPACE), workers), workers, c.scores19, c.trace19, c.start, c)


def main() -> None:
    c = load()
    table = [(w, *search(w, c).values(), exhaustive(w, c)) for w in WORKERS]
    print(f"{c.machine}\n")
    print("| workers | pool | evolution | speedup of both | supernet | whole search | ResNet-19 space | its speedup |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    first = table[0]
    for w, pool, net, evolution, space in table:
        print(
            f"| {w:,} | {hours(pool)} | {hours(evolution)} | {(first[1] + first[3]) / (pool + evolution):.1f} | "
            f"{hours(net)} | {hours(pool + net + evolution)} | {hours(space)} | {first[4] / space:.1f} |"
        )
    draw(table)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def draw(table: Sequence[tuple[float, ...]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "bcgraph"
    import matplotlib.pyplot as plt

    figure, frames = plt.subplots(1, 2, figsize=(10, 3.6))
    workers = [row[0] for row in table]
    lines: tuple[tuple[int, str, Callable[[tuple[float, ...]], float]], ...] = (
        (0, "scoring the pool", lambda row: row[1]),
        (0, "evolution", lambda row: row[3]),
        (0, "training the supernet", lambda row: row[2]),
        (0, "whole search", lambda row: row[1] + row[2] + row[3]),
        (1, "all 14,707 architectures", lambda row: row[4]),
    )
    for place, name, value in lines:
        frames[place].loglog(workers, [value(row) / 3600 for row in table], ".-", label=name)
    frames[1].loglog(workers, [table[0][4] / 3600 / w for w in workers], "--", color="0.7", label="ideal")
    for frame, title in zip(frames, ("search on CIFAR-100, ResNet-18", "scores of ResNet-19's space"), strict=True):
        frame.set(title=title, xlabel="workers of one thread", ylabel="hours")
        frame.set_xticks(workers[::2], [f"{int(w):,}" for w in workers[::2]])
        frame.minorticks_off()
        frame.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


def load() -> Costs:
    data = json.loads(COSTS.read_text())
    return Costs(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


Field: TypeAlias = tuple[str, float | int | str | tuple[float, ...]]


def overheads() -> Iterator[Field]:
    """What workers cost beside evaluations."""
    from bcgraph.search.distributed.chunks import FixedTasks
    from bcgraph.search.distributed.cluster import joined
    from bcgraph.search.distributed.pool import Pool
    from tests.search.raying import Naps

    with joined(None, 2):
        pool = Pool(2, 1)
        pool.give(Naps())
        list(pool.run(FixedTasks([(0.0,)] * 2)))
        started = time.process_time()
        list(pool.run(FixedTasks([(0.0,)] * 1000)))
        yield "hand", (time.process_time() - started) / 1000
        pool.close()
    yield "keep", keeping()
    yield from starting()


def starting() -> Iterator[Field]:
    """A process that loads all that a worker needs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import ray, bcgraph.search.distributed.tasks"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield "start", after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(part: str) -> None:
    """Measure a part of the costs and keep it beside the others."""
    import torch

    from benchmarks.harness import machine

    torch.set_num_threads(1)
    for name, value in PARTS[part]():
        data = json.loads(COSTS.read_text()) if COSTS.exists() else {}
        COSTS.write_text(json.dumps({**data, "machine": machine(), name: value}, indent=1) + "\n")
        print(name, value, flush=True)


def spec_of(name: str):  # type: ignore[no-untyped-def]
    import bcgraph

    return bcgraph.load(HERE.parent / "specs" / "recipes" / f"cifar100_resnet{name}_t4.bcg")


def candidates(name: str, count: int):  # type: ignore[no-untyped-def]
    from bcgraph.search.space import sample

    rng = random.Random(0)
    return [sample(spec_of(name), rng) for _ in range(count)]


def scores(name: str, count: int) -> Iterator[Field]:
    import torch

    from bcgraph.search.scores.scorer import Scorer, ScoringBatch
    from benchmarks.networks import images

    found = []
    # Half of the classes come twice, as in a batch of 64 from 100 classes.
    scorer = Scorer(ScoringBatch(images(64), torch.arange(64) % 32), 0, ("n", "e"))
    chosen = candidates(name, count)
    for candidate in [chosen[0], *chosen]:
        started = time.process_time()
        list(scorer([candidate]))
        found.append(time.process_time() - started)
    yield f"scores{name}", tuple(round(s, 4) for s in found[1:])
    yield f"trace{name}", found[0] - found[1]


def accuracies(count: int) -> Iterator[Field]:
    from bcgraph.search.supernet.one_shot import OneShot
    from bcgraph.search.supernet.supernet import Supernet
    from benchmarks.supernet import Validation

    spec = spec_of("18")
    supernet = Supernet(spec, 0, Validation(1))  # type: ignore[arg-type]
    size = OneShot(supernet, Validation(1)).batch(spec)  # type: ignore[arg-type]
    shot = OneShot(supernet, Validation(size))  # type: ignore[arg-type]
    chosen = candidates("18", count)

    def took(some):  # type: ignore[no-untyped-def]
        started = time.process_time()
        shot.tally(some)
        return time.process_time() - started

    one, all_of_them = took(chosen[:1]), took(chosen)
    each = (all_of_them - one) / (count - 1)
    yield "batch", size
    yield "forward", one - each
    yield "accuracies", (each,)


def step() -> Iterator[Field]:
    """A training step of the supernet on two cores, from one on one thread with a quarter of a batch."""
    import torch

    from bcgraph.search.supernet.supernet import Supernet
    from bcgraph.training.losses import LOSSES
    from bcgraph.training.optimizers import optimizer
    from benchmarks.networks import images
    from benchmarks.supernet import Validation

    part = BATCH // 4
    supernet = Supernet(spec_of("18"), 0, Validation(1))  # type: ignore[arg-type]
    update = optimizer(supernet.full.parameters(), supernet.spec.train.optimizer)
    x, y = images(part), torch.arange(part)
    times = []
    for k in range(3):
        started = time.process_time()
        model = supernet.model(supernet.drawn(0, k)).train()
        update.zero_grad(set_to_none=True)
        LOSSES["tet"](model(x), y, 0.0).backward()  # type: ignore[no-untyped-call]
        update.step()
        times.append(time.process_time() - started)
    yield "step", 4 / 2 * sum(times[1:]) / len(times[1:])


def keeping() -> float:
    """Seconds that the driver takes to keep an evaluation: proposal, log, and the study in its file."""
    from bcgraph.search import run
    from tests.search import landscape

    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        result = run(landscape.spec(), Path(folder), evaluators=landscape.Fake())
        return (time.process_time() - started) / len(result.records)


PARTS: dict[str, Callable[[], Iterator[Field]]] = {
    "overheads": overheads,
    "start": starting,
    "resnet18": partial(scores, "18", 4),
    "accuracies": partial(accuracies, 4),
    "step": step,
    "resnet19": partial(scores, "19", 2),
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        for part in sys.argv[2:] or PARTS:
            measure(part)
    else:
        main()
