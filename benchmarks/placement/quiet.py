"""`python -m benchmarks.placement.quiet`: how loud feedback should start, trained on the rows of digits.

Every run trains `specs/tiny_digits_rows.bcg` as it says, with some connections and one first scale (`gain`) for all of
them, and is kept in a CSV file as soon as it is done; the same command resumes. `--summary` prints the tables.
What is run, in this order:

- `all`: all 15 connections at once;
- `random`: 0, 1, 2, 4 and 8 connections, drawn anew for each seed and the same for all gains;
- `table`: all 121 architectures of at most two connections at gain 0.1;
- `single`: each connection alone.

`--spec` and `--out` do it for the network of another file, `--purposes`, `--gains` and `--seeds` for a part of this.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from bcgraph import dsl, files, keys
from bcgraph.cli.output import table
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.pairs import Space
from bcgraph.search.space.search_space import Architecture
from benchmarks.placement import records, rows, together, work

SPEC = Path(__file__).parents[2] / "specs" / "tiny_digits_rows.bcg"
TABLE = Path(__file__).with_name("digits_rows_gain.csv")
"""The runs that are kept."""

GAINS = (0.0, 0.03, 0.1, 0.3, 1.0)
COUNTS = (0, 1, 2, 4, 8)
SEEDS = 5
TABLE_SEEDS = 3
TABLE_GAIN = 0.1
SIDE_BY_SIDE = 24
PURPOSES = ("all", "random", "table", "single")

Job: TypeAlias = tuple[str, float, Architecture, int]
"""What belongs to it ("all", "random", ...), gain, connections, seed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished training run; `purpose` is the first part of its job."""

    purpose: str
    gain: float
    backward: str
    seed: int
    accuracy: float
    best: float
    loss: float
    seconds: float

    @property
    def key(self) -> tuple[float, str, int]:
        """Runs with equal keys are the same run, whatever they are for."""
        return self.gain, self.backward, self.seed


def jobs(
    spec: NetworkSpec, purposes: Sequence[str] = PURPOSES, gains: Sequence[float] = GAINS, seeds: int = SEEDS
) -> Iterator[Job]:
    """Everything to be run. What two purposes share is listed twice."""
    pairs = work.every_pair(spec)
    space = Space(len(spec.ports), 2)
    for seed in range(seeds):
        if "all" in purposes:
            yield from (("all", gain, pairs, seed) for gain in gains)
        for count in COUNTS if "random" in purposes else ():
            drawn = tuple(sorted(keys.rng(seed, "quiet", count).sample(pairs, count)))
            yield from (("random", gain, drawn, seed) for gain in (gains if drawn else gains[-1:]))
        if "table" in purposes and seed < TABLE_SEEDS:
            yield from (("table", TABLE_GAIN, space.architecture(i), seed) for i in range(space.size))
    for seed in range(seeds) if "single" in purposes else ():
        yield from (("single", gain, (pair,), seed) for pair in pairs for gain in gains)


def key_of(job: Job) -> tuple[float, str, int]:
    """The key of the run of a job."""
    _, gain, pairs, seed = job
    return gain, records.written(pairs), seed


def train(spec: Path, jobs: Sequence[Job]) -> list[Run]:
    """Training runs of a file's network on one thread, side by side."""
    text = dsl.format_spec(dsl.load(spec).with_backward(()))
    entries = []
    for _, gain, pairs, seed in jobs:
        quiet = text.replace("  backbone", f"  feedback = project(gain={gain})\n  backbone", 1)
        entries.append(together.Entry(dsl.parse(quiet).with_backward(pairs), seed))
    with work.one_thread():
        outcomes = together.train(entries)
    return [
        Run(purpose, gain, records.written(pairs), seed, found.accuracy, found.best, found.loss, found.seconds)
        for (purpose, gain, pairs, seed), found in zip(jobs, outcomes, strict=True)
    ]


def run(spec: Path, path: Path, asked: Sequence[Job], *, workers: int, limit: int | None) -> None:
    """Train what is missing in `path` of what is `asked`, at most `limit` of it, 24 side by side in a process."""
    with files.locked(path.parent):
        done = rows.read(path, Run)
        seen = {each.key for each in done}
        missing: list[Job] = []
        for job in asked:
            if key_of(job) not in seen:
                seen.add(key_of(job))
                missing.append(job)
        missing = missing[:limit]
        work.extend_by(path, Run, done, missing, partial(train, spec), SIDE_BY_SIDE, workers=workers)


def summary(asked: Sequence[Job], runs: Sequence[Run]) -> str:
    """Mean accuracy and deviation for each purpose and gain."""
    found = {each.key: each.accuracy for each in runs}
    wanted: dict[tuple[str, float], list[float]] = {}
    for job in asked:
        if key_of(job) in found:
            label = job[0] if job[0] != "random" else f"{len(job[2])} random"
            wanted.setdefault((label, job[1]), []).append(found[key_of(job)])
    lines = []
    for (label, gain), values in wanted.items():
        spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-"
        mean = f"{statistics.mean(values):.4f}"
        lines.append((label, f"{gain:g}", mean, spread, f"{min(values):.4f}", f"{max(values):.4f}", len(values)))
    lines.sort()
    header = ("connections", "gain", "accuracy", "deviation", "lowest", "highest", "runs")
    return table(header, lines, right=range(1, 7))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.placement.quiet", description="How loud feedback starts"
    )
    parser.add_argument("--out", type=Path, default=Path("out/quiet/digits_rows_gain.csv"), help="the CSV file")
    parser.add_argument("--spec", type=Path, default=SPEC, help="the file whose network is trained")
    parser.add_argument("--purposes", nargs="+", choices=PURPOSES, default=PURPOSES, help="what is run")
    parser.add_argument("--gains", nargs="+", type=float, default=GAINS, help="the first scales")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of each kind")
    parser.add_argument("--workers", type=int, default=2, help="processes, each on one thread")
    parser.add_argument("--limit", type=int, default=None, help="stop after so many runs")
    parser.add_argument("--summary", action="store_true", help="only print the tables so far")
    asked = parser.parse_args()
    try:
        wanted = list(jobs(dsl.load(asked.spec), asked.purposes, asked.gains, asked.seeds))
        if not asked.summary:
            run(asked.spec, asked.out, wanted, workers=asked.workers, limit=asked.limit)
        print(summary(wanted, rows.read(asked.out, Run)))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")


if __name__ == "__main__":
    main()
