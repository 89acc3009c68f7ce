"""`python -m benchmarks.placement.kinds`: what other kinds of connection are worth, trained on the rows of digits.

Every run trains `specs/tiny_digits_rows.bcg` as it says, with connections of the paper's kind and with others in their
place: read two or three steps late, through a 3x3 convolution, multiplying the current, or forward to a later port. It
is kept in a CSV file as soon as it is done; the same command resumes. `--summary` prints the table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bcgraph import dsl, files
from bcgraph.cli.output import table
from bcgraph.schema import NetworkSpec
from benchmarks.placement import rows, work

SPEC = Path(__file__).parents[2] / "specs" / "tiny_digits_rows.bcg"

SEEDS = 3

PLACES = ("1>1", "3>3", "1>1 3>3", "4>4", "3>1", "4>0")
"""Backward connections that are trained in every kind: three good places, and ever worse ones."""

KINDS: Mapping[str, str] = {
    "delay 1": "",
    "delay 2": "delay = 2",
    "delay 3": "delay = 3",
    "3x3": "through = project(kernel=3)",
    "3x3, delay 2": "through = project(kernel=3); delay = 2",
    "times": "join = mul",
    "times, 3x3": "join = mul; through = project(kernel=3)",
    "membrane": "read = u",
}
"""The settings of each kind."""

SKIPS = ("0>1", "1>3", "0>4", "2>4")
"""Forward connections, which are trained with a delay of 1 and of 2, alone and beside the best pair."""

BEST = "1>1 3>3"

Job: TypeAlias = tuple[str, str, str, int]
"""Places and kind, the statements that this means, and the seed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished training run."""

    places: str
    kind: str
    seed: int
    accuracy: float
    best: float
    loss: float
    seconds: float

    @property
    def key(self) -> tuple[str, str, int]:
        """No two runs have the same."""
        return self.places, self.kind, self.seed


def architectures() -> Iterator[tuple[str, str, str]]:
    """Places, kind and statements of every network of the table, that without connections first."""
    yield "none", "-", ""
    for places in PLACES:
        for kind, settings in KINDS.items():
            yield places, kind, _statements("backward", places, settings)
    for skip in SKIPS:
        for delay in (1, 2):
            forward = _statements("forward", skip, f"delay = {delay}")
            yield skip, f"forward, delay {delay}", forward
            yield f"{BEST} and {skip}", f"forward, delay {delay}", f"{_statements('backward', BEST, '')}; {forward}"


def _statements(word: str, places: str, settings: str) -> str:
    braces = f" {{ {settings} }}" if settings else ""
    pairs = (place.split(">") for place in places.split())
    return "; ".join(f"{word} @{source} -> @{target}{braces}" for source, target in pairs)


def jobs() -> Iterator[Job]:
    """Everything to be run, seed by seed, so that whatever is done first compares all networks."""
    for seed in range(SEEDS):
        for places, kind, statements in architectures():
            yield places, kind, statements, seed


def network(statements: str) -> NetworkSpec:
    """The network of the file with these connections in place of its own."""
    text = dsl.format_spec(dsl.load(SPEC).with_connections())
    return dsl.parse(text.replace("\n}\n\ndata", f"\n  {statements}\n}}\n\ndata", 1))


def train(job: Job) -> Run:
    """One training run, on one thread."""
    places, kind, statements, seed = job
    found = work.outcome(network(statements), seed)
    return Run(places, kind, seed, found.accuracy, found.best, found.loss, found.seconds)


def run(path: Path, *, workers: int, limit: int | None) -> None:
    """Train what is missing in `path`, at most `limit` of it."""
    with files.locked(path.parent):
        done = rows.read(path, Run)
        seen = {each.key for each in done}
        missing = [job for job in jobs() if (job[0], job[1], job[3]) not in seen]
        work.extend(path, Run, done, missing[:limit], train, workers=workers)


def summary(runs: Sequence[Run]) -> str:
    """Mean accuracy and deviation of each network, the best first."""
    found: dict[tuple[str, str], list[float]] = {}
    for each in runs:
        found.setdefault((each.places, each.kind), []).append(each.accuracy)
    lines = []
    for (places, kind), values in sorted(found.items(), key=lambda item: -statistics.mean(item[1])):
        spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-"
        lines.append((places, kind, f"{statistics.mean(values):.4f}", spread, len(values)))
    return table(("connections", "kind", "accuracy", "deviation", "runs"), lines, right=range(2, 5))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement.kinds", description="Kinds of connection")
    parser.add_argument("--out", type=Path, default=Path("out/kinds/digits_rows_kinds.csv"), help="the CSV file")
    parser.add_argument("--workers", type=int, default=2, help="processes, each on one thread")
    parser.add_argument("--limit", type=int, default=None, help="stop after so many runs")
    parser.add_argument("--summary", action="store_true", help="only print the table so far")
    asked = parser.parse_args()
    try:
        if not asked.summary:
            run(asked.out, workers=asked.workers, limit=asked.limit)
        print(summary(rows.read(asked.out, Run)))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")


if __name__ == "__main__":
    main()
