"""Training runs, each in a process and on a thread of its own, kept as soon as they are done."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

from bcgraph import dsl
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.pairs import Pair, Space
from bcgraph.search.space.search_space import Architecture
from benchmarks.placement import records, rows
from benchmarks.placement.records import Outcome, Record

Job = tuple[str, Architecture, int]

Row = TypeVar("Row")
Task = TypeVar("Task")


def every_pair(spec: NetworkSpec) -> tuple[Pair, ...]:
    """Every backward connection of a network in the paper's space, by source and then by target."""
    single = Space(len(spec.ports), 1)
    return tuple(single.pair(index) for index in range(single.pairs))


def jobs(spec: NetworkSpec, seeds: int) -> list[Job]:
    """All trainings, seed by seed, so that whatever is done first compares all architectures."""
    space = Space(len(spec.ports), spec.search.max_backward)
    text = dsl.format_spec(spec.with_backward(()))
    return [(text, space.architecture(index), seed) for seed in range(seeds) for index in range(space.size)]


def train(job: Job) -> Record:
    """One training, on one thread."""
    text, architecture, seed = job
    spec = dsl.parse(text).with_backward(architecture)
    return _record(job, spec, outcome(spec, seed))


def one_thread() -> AbstractContextManager[None]:
    """Inside, torch computes on one thread."""
    from bcgraph.nn.defaults import threads

    return threads(1)


def train_side_by_side(jobs: Sequence[Job]) -> list[Record]:
    """Many training runs at once, on one thread."""
    from benchmarks.placement import together

    entries = [together.Entry(dsl.parse(text).with_backward(architecture), seed) for text, architecture, seed in jobs]
    with one_thread():
        outcomes = together.train(entries)
    return [_record(job, entry.spec, found) for job, entry, found in zip(jobs, entries, outcomes, strict=True)]


def _record(job: Job, spec: NetworkSpec, found: Outcome) -> Record:
    _, architecture, seed = job
    settings = records.settings_of(spec)
    return Record(settings, records.written(architecture), seed, found.accuracy, found.best, found.loss, found.seconds)


def outcome(spec: NetworkSpec, seed: int) -> Outcome:
    """Train `spec` on one thread."""
    from bcgraph import training

    started = time.perf_counter()
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        result = training.train(spec, out=Path(folder) / "run", seed=seed)
    seconds = round(time.perf_counter() - started, 1)
    return Outcome(result.accuracy, result.best, result.history[-1].loss, seconds)


def extend(
    path: Path,
    kind: type[Row],
    done: Sequence[Row],
    missing: Sequence[Task],
    run: Callable[[Task], Row],
    *,
    workers: int,
    say: Callable[[Row], None] = lambda _: None,
) -> None:
    """Run what is missing, in so many processes, and keep each row in `path` beside those that are `done`.

    `say` is called with each new row. `run` is a function of a module, and what it takes can be pickled.
    """
    extend_by(path, kind, done, missing, partial(_each, run), 1, workers=workers, say=say)


def extend_by(
    path: Path,
    kind: type[Row],
    done: Sequence[Row],
    missing: Sequence[Task],
    run: Callable[[Sequence[Task]], Sequence[Row]],
    together: int,
    *,
    workers: int,
    say: Callable[[Row], None] = lambda _: None,
) -> None:
    """The same where `run` takes so many tasks `together`."""
    print(f"{len(done)} done, {len(missing)} to do in {path}", flush=True)
    parts = [missing[start : start + together] for start in range(0, len(missing), together)]
    kept = list(done)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for future in as_completed([pool.submit(run, part) for part in parts]):
            found = future.result()
            kept.extend(found)
            rows.write(path, kind, kept)
            for row in found:
                say(row)


def _each(run: Callable[[Task], Row], tasks: Sequence[Task]) -> list[Row]:
    return [run(task) for task in tasks]
