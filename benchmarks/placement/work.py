"""The trainings, each for a process of its own."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bcgraph import dsl
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.pairs import Architecture, Space
from benchmarks.placement import records
from benchmarks.placement.records import Record

Job = tuple[str, Architecture, int]


def jobs(spec: NetworkSpec, seeds: int) -> list[Job]:
    """All trainings, seed by seed, so that whatever is done first compares all architectures."""
    space = Space(len(spec.ports), spec.search.max_backward)
    text = dsl.format_spec(spec.with_backward(()))
    return [(text, space.architecture(index), seed) for seed in range(seeds) for index in range(space.size)]


def train(job: Job) -> Record:
    """One training, on one thread."""
    import torch

    from bcgraph import training

    torch.set_num_threads(1)
    text, architecture, seed = job
    spec = dsl.parse(text).with_backward(architecture)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = training.train(spec, out=Path(folder) / "run", seed=seed)
    return Record(
        records.settings_of(spec),
        records.written(architecture),
        seed,
        result.accuracy,
        result.best,
        result.history[-1].loss,
        round(time.perf_counter() - started, 1),
    )
