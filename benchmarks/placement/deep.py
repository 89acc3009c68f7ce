"""`python -m benchmarks.placement.deep`: how loud feedback should start in a deep network, trained on digits.

Every run trains `specs/digits_resnet18.bcg` as it says, with some connections, one first scale (`gain`), and with or
without dividing it by the square root of how many connections arrive at the same target. It is kept in a CSV file as
soon as it is done; the same command resumes. `--summary` prints the table. What is run, for each seed in this order:

- `none`: no connection;
- `all`: all 153;
- `16>0` and `12>0 16>8`: one long connection, and two;
- `8 random, draw k`: eight connections, drawn for the draw and the same for all gains.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bcgraph import dsl, files, keys
from bcgraph.cli.output import table
from bcgraph.schema import BackwardConnection, NetworkSpec
from bcgraph.search.space.search_space import Architecture
from benchmarks.placement import rows, work

SPEC = Path(__file__).parents[2] / "specs" / "digits_resnet18.bcg"
TABLE = Path(__file__).with_name("digits_deep_gain.csv")
"""The runs that are kept."""
GAINS = (0.0, 0.02, 0.1, 1.0)
DRAWS = 3

Job: TypeAlias = tuple[str, Architecture, float, bool, int]
"""Name of the connections, the connections, gain, whether it is divided, seed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished training run. `loss` is the last of training, `accuracy` the last on the test part."""

    connections: str
    gain: float
    divided: bool
    seed: int
    accuracy: float
    best: float
    loss: float
    seconds: float

    @property
    def key(self) -> tuple[str, float, bool, int]:
        """No two runs have the same."""
        return self.connections, self.gain, self.divided, self.seed


def connections(spec: NetworkSpec) -> dict[str, Architecture]:
    """What is trained, by name, in this order."""
    pairs = work.every_pair(spec)
    found: dict[str, Architecture] = {"all": pairs, "16>0": ((16, 0),), "12>0 16>8": ((12, 0), (16, 8))}
    for draw in range(DRAWS):
        found[f"8 random, draw {draw}"] = tuple(sorted(keys.rng(draw, "deep").sample(pairs, 8)))
    return found


def jobs(spec: NetworkSpec, seeds: int) -> Iterator[Job]:
    """Everything to be run. Dividing is left out where it changes nothing."""
    for seed in range(seeds):
        yield "none", (), 1.0, False, seed
        for name, pairs in connections(spec).items():
            crowded = len({target for _, target in pairs}) < len(pairs)
            for gain in GAINS:
                yield name, pairs, gain, False, seed
                if gain and crowded:
                    yield name, pairs, gain, True, seed


def wired(spec: NetworkSpec, pairs: Architecture, gain: float, *, divided: bool) -> NetworkSpec:
    """`spec` with the connections `pairs`, which start at `gain`, divided by the root of those at their target."""
    arriving = Counter(target for _, target in pairs)
    return spec.with_backward(
        BackwardConnection(source, target, gain=gain / math.sqrt(arriving[target]) if divided else gain)
        for source, target in pairs
    )


def train(job: Job) -> Run:
    """One training run, on one thread."""
    name, pairs, gain, divided, seed = job
    found = work.outcome(wired(dsl.load(SPEC), pairs, gain, divided=divided), seed)
    return Run(name, gain, divided, seed, found.accuracy, found.best, found.loss, found.seconds)


def run(spec: NetworkSpec, path: Path, *, seeds: int, workers: int, limit: int | None) -> None:
    """Train what is missing in `path`, at most `limit` of it."""
    with files.locked(path.parent):
        done = rows.read(path, Run)
        seen = {each.key for each in done}
        missing = [job for job in jobs(spec, seeds) if (job[0], *job[2:]) not in seen][:limit]
        work.extend(path, Run, done, missing, train, workers=workers)


def summary(runs: Sequence[Run]) -> str:
    """Mean accuracy and training loss by connections, gain and division; all draws of random ones together."""
    found: dict[tuple[str, float, bool], list[Run]] = {}
    for each in runs:
        found.setdefault((each.connections.partition(",")[0], each.gain, each.divided), []).append(each)
    lines = []
    for (name, gain, divided), some in sorted(found.items()):
        values = [each.accuracy for each in some]
        means = (statistics.mean(values), min(values), max(values), statistics.mean(each.loss for each in some))
        start = "-" if name == "none" else f"{gain:g}" + (" / root" if divided else "")
        lines.append((name, start, *(f"{value:.4f}" for value in means), len(some)))
    return table(("connections", "gain", "accuracy", "lowest", "highest", "loss", "runs"), lines, right=range(1, 7))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.placement.deep", description="How loud feedback starts in a deep network"
    )
    parser.add_argument("--out", type=Path, default=Path("out/deep/digits_deep_gain.csv"), help="the CSV file")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each kind")
    parser.add_argument("--workers", type=int, default=2, help="processes, each on one thread")
    parser.add_argument("--limit", type=int, default=None, help="stop after so many runs")
    parser.add_argument("--summary", action="store_true", help="only print the table so far")
    asked = parser.parse_args()
    spec = dsl.load(SPEC)
    try:
        if not asked.summary:
            run(spec, asked.out, seeds=asked.seeds, workers=asked.workers, limit=asked.limit)
        print(summary(rows.read(asked.out, Run)))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")


if __name__ == "__main__":
    main()
