"""How long a search takes with more and more workers: a simulation driven by measured costs.

`python -m benchmarks.growth measure [PART...]` measures the costs (minutes) into `growth.json`, and
`python -m benchmarks.growth` plays the driver and its workers with them, task by task as the driver really cuts them,
and draws `docs/scaling.svg`.
"""

from __future__ import annotations

import heapq
import json
import math
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

# Of the network between machines, which no machine here can measure: 10 gigabits a second, 50 microseconds a message.
BANDWIDTH, LATENCY = 1.25e9, 50e-6


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
    fixed: float  # of such a step, whatever the number of samples, on one thread
    sample: float  # of such a step, for each sample
    exchange: float  # an all-reduce of a small tensor by two processes, of each
    exchanges: int  # of them in a step: the sums of the batch norms, forward and backward
    gradients: int  # bytes of all gradients


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


def processes(workers: int) -> int:
    """How many processes of two threads share a batch of the supernet; each needs two samples of it."""
    return max(1, min(workers // 2, BATCH // 2))


def spread_step(number: int, c: Costs) -> float:
    """Seconds of a train step that `number` processes share: what each computes, and what they exchange.

    A small sum takes two messages for each doubling of the processes, the gradients go round in a ring.
    """
    if number == 1:
        return c.step
    computed = c.step * (c.fixed + c.sample * BATCH / number) / (c.fixed + c.sample * BATCH)
    small = c.exchanges * (c.exchange + 2 * math.ceil(math.log2(number)) * LATENCY)
    return computed + small + 2 * (number - 1) / number * c.gradients / BANDWIDTH


def search(workers: int, c: Costs) -> dict[str, float]:
    """The stages of the paper's search on CIFAR-100 with ResNet-18, in seconds."""
    pool = simulate(Chunks(range(POOL), workers), workers, c.scores18, c.trace18, c.start, c)
    populations = [KEEP] + [POPULATION] * ITERATIONS
    steps = EPOCHS * -(-TRAINING // BATCH)
    return {
        "scoring the pool": pool,
        "training the supernet": steps * c.step,
        "the supernet, spread": steps * spread_step(processes(workers), c),
        "evolution": sum(population(workers, count, c) for count in populations),
    }


def exhaustive(workers: int, c: Costs) -> float:
    """Seconds for the scores of the whole space of ResNet-19 with two connections."""
    return simulate(Chunks(range(SPACE), workers), workers, c.scores19, c.trace19, c.start, c)


def main() -> None:
    c = load()
    table = [(w, *search(w, c).values(), exhaustive(w, c)) for w in WORKERS]
    print(f"{c.machine}\n")
    print("| workers | pool | evolution | speedup of both | ResNet-19 space | its speedup |")
    print("|--:|--:|--:|--:|--:|--:|")
    first = table[0]
    for w, pool, _, _, evolution, space in table:
        print(
            f"| {w:,} | {hours(pool)} | {hours(evolution)} | {(first[1] + first[4]) / (pool + evolution):.1f} | "
            f"{hours(space)} | {first[5] / space:.1f} |"
        )
    print("\n| workers | supernet in one process | whole search | speedup | spread | whole search | speedup |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    alone = first[1] + first[2] + first[4]
    for w, pool, net, spread, evolution, _ in table:
        one, many = (pool + evolution + each for each in (net, spread))
        print(
            f"| {w:,} | {hours(net)} | {hours(one)} | {alone / one:.2f} | "
            f"{hours(spread)} | {hours(many)} | {alone / many:.1f} |"
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
        (0, "evolution", lambda row: row[4]),
        (0, "the supernet, spread", lambda row: row[3]),
        (0, "whole search, in one process", lambda row: row[1] + row[2] + row[4]),
        (0, "whole search, spread", lambda row: row[1] + row[3] + row[4]),
        (1, "all 14,707 architectures", lambda row: row[5]),
    )
    for place, name, value in lines:
        frames[place].loglog(workers, [value(row) / 3600 for row in table], ".-", label=name)
    frames[1].loglog(workers, [table[0][5] / 3600 / w for w in workers], "--", color="0.7", label="ideal")
    for frame, title in zip(frames, ("search on CIFAR-100, ResNet-18", "scores of ResNet-19's space"), strict=True):
        frame.set(title=title, xlabel="workers of one thread", ylabel="hours")
        frame.set_xticks(workers[::2], [f"{int(w):,}" for w in workers[::2]])
        frame.minorticks_off()
        frame.legend(frameon=False, fontsize="small")
    # Room for the names below the lines.
    frames[0].set_ylim(bottom=1e-4)
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
    yield "step", 4 / 2 * _trained(_supernet(), BATCH // 4)


def _supernet():  # type: ignore[no-untyped-def]
    from bcgraph.search.supernet.supernet import Supernet
    from benchmarks.supernet import Validation

    return Supernet(spec_of("18"), 0, Validation(1))  # type: ignore[arg-type]


def _trained(supernet, samples: int) -> float:  # type: ignore[no-untyped-def]
    """Seconds of processor time of a train step on so many samples."""
    import torch

    from bcgraph.training.losses import LOSSES
    from bcgraph.training.optimizers import optimizer
    from benchmarks.networks import images

    update = optimizer(supernet.full, supernet.spec.train.optimizer)
    x, y = images(samples), torch.arange(samples)
    times = []
    for k in range(3):
        started = time.process_time()
        model = supernet.model(supernet.drawn(0, k)).train()
        update.zero_grad(set_to_none=True)
        LOSSES["tet"](model(x), y, 0.0).backward()  # type: ignore[no-untyped-call]
        update.step()
        times.append(time.process_time() - started)
    return sum(times[1:]) / len(times[1:])


def spread() -> Iterator[Field]:
    """What processes that share a batch of the supernet compute and exchange."""
    from bcgraph.nn.modules import BatchNorm

    supernet = _supernet()
    few, many = 2, BATCH // 4
    short, long = _trained(supernet, few), _trained(supernet, many)
    yield "sample", (long - short) / (many - few)
    yield "fixed", short - few * (long - short) / (many - few)
    yield "gradients", sum(p.numel() * p.element_size() for p in supernet.full.parameters())
    model = supernet.model(supernet.drawn(0, 0))
    norms = [
        n for n in model.graph.nodes if n.op == "call_module" and isinstance(model.get_submodule(n.target), BatchNorm)
    ]
    # Forward a count and two sums, backward the gradients of the two.
    yield "exchanges", 5 * len(norms)
    yield "exchange", exchanging()


def exchanging() -> float:
    """Seconds of processor time of an all-reduce of a small tensor, in each of two processes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.growth", "exchange", str(Path(folder) / "store")]
        others = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE) for rank in range(2)]
        return max(float(each.communicate()[0]) for each in others)


def exchange(store: str, rank: int, number: int = 2000) -> float:
    """One of the two processes; they meet in a file."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2)  # type: ignore[attr-defined]
    value = torch.zeros(256)
    dist.all_reduce(value)
    started = time.process_time()
    for _ in range(number):
        dist.all_reduce(value)
    found = (time.process_time() - started) / number
    dist.barrier()
    return found


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
    "spread": spread,
    "resnet19": partial(scores, "19", 2),
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        for part in sys.argv[2:] or PARTS:
            measure(part)
    elif sys.argv[1:2] == ["exchange"]:
        print(exchange(sys.argv[2], int(sys.argv[3])))
    else:
        main()
