"""Scoring throughput of two workers of one thread against one, and what handing the work out costs."""

from __future__ import annotations

import random
import time

import torch

from bcgraph import search
from bcgraph.schema import NetworkSpec
from bcgraph.search.distributed.cluster import joined
from bcgraph.search.distributed.pool import Pool
from bcgraph.search.distributed.tasks import PooledEvaluator, Scoring
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from benchmarks.harness import Row
from benchmarks.networks import images, resnet18

BATCH = 32
CANDIDATES = 10


def work(candidates: int) -> tuple[NetworkSpec, list[NetworkSpec], Scorer]:
    spec, rng = resnet18(), random.Random(0)
    chosen = [search.sample(spec, rng) for _ in range(candidates)]
    return spec, chosen, Scorer(ScoringBatch(images(BATCH), torch.arange(BATCH) % 10), 0, ("n", "e"))


def one_process(threads: int, candidates: int = CANDIDATES) -> float:
    """Candidates per second of this process."""
    _, chosen, scorer = work(candidates)
    torch.set_num_threads(threads)
    list(scorer(chosen[:1]))
    started = time.perf_counter()
    list(scorer(chosen))
    return candidates / (time.perf_counter() - started)


def throughput(workers: int, candidates: int = CANDIDATES) -> tuple[float, float]:
    """Candidates per second once the traces are there, and the share of the workers' time that is lost."""
    spec, chosen, scorer = work(candidates)
    with joined(None, workers):
        pool = Pool(workers, 1)
        pool.give(Scoring(spec, scorer))
        shared = PooledEvaluator(scorer, spec, lambda _: pool)
        # Each worker takes its trace with its first candidate, and here they all get one at the same time.
        while len(pool.seen) < workers:
            list(shared(chosen[: 2 * workers]))
        list(shared(chosen[: 2 * workers]))
        before = pool.usage.busy, pool.usage.available
        started = time.perf_counter()
        list(shared(chosen))
        seconds = time.perf_counter() - started
        busy, available = pool.usage.busy - before[0], pool.usage.available - before[1]
        pool.close()
    return candidates / seconds, 1 - busy / available


def run() -> list[Row]:
    found = {workers: throughput(workers) for workers in (1, 2)}
    (one, alone), (two, together) = found[1], found[2]
    threads = one_process(2)
    return [
        Row(
            f"ResNet-18, N and E, batch {BATCH}: candidates/s",
            f"{two:.3f} (2 workers)",
            f"{one:.3f} (1)",
            f"{two / one:.2f} x",
            ">= 1.8 x",
        ),
        Row(
            "the same",
            f"{two:.3f} (2 workers)",
            f"{threads:.3f} (a process of 2 threads)",
            f"{two / threads:.2f} x",
            "",
        ),
        Row("overhead, the share of the workers' time", f"{together:.1%} (2 workers)", f"{alone:.1%} (1)", "", "< 5 %"),
    ]


if __name__ == "__main__":
    from benchmarks.harness import show

    print(show(run()))
