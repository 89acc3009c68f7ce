"""`python -m benchmarks.placement.fashion`: feedback in ResNet-18 on all of Fashion-MNIST, in pieces of a few minutes.

Meant for a GPU that is there for minutes: `--minutes 8` ends after a whole epoch within that time, and the same command
with the same `--out` resumes, also on another machine to which the folder was copied. A checkpoint has some 130 MB.
Where only small files can be copied, `--table` is enough: what it says is finished is not trained again, and a search
that has ended is not repeated. `--root` is a folder with the idx files, for machines that have no packages.

For each seed, trained as `specs/resnet18_fashion.bcg` says, in this order:

- `none`: no connection;
- `found`: the four that `strategy = gains` keeps on a network of a quarter of the width, searched once;
- `front`: four connections from the last ports to the first, where the paper finds feedback;
- `random 0` to `random 2`: four connections drawn by chance;

each with connections at gain 1 and at gain 0.1. What is printed at the end are the accuracies of the last epoch on the
test part, also of what is not finished. For scale: PLIF (Fang et al. 2021) reports 94.38 % with T = 8.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bcgraph import dsl, keys, search, training
from bcgraph.cli.output import table
from bcgraph.schema import BackwardConnection, NetworkSpec
from bcgraph.search.space.search_space import Architecture
from bcgraph.training.events import Epoch
from benchmarks.placement import rows, work

SPEC = Path(__file__).parents[2] / "specs" / "resnet18_fashion.bcg"
COUNT = 4
DRAWS = 3
GAINS = (1.0, 0.1)
NARROWER = 4

NONE, FOUND, FRONT, RANDOM = "none", "found", "front", "random"


class OutOfTimeError(Exception):
    """The minutes are over."""


@dataclass(frozen=True, slots=True)
class Trained:
    """An epoch of a run; epoch 0 of `found` says what the search has found."""

    connections: str
    gain: float
    seed: int
    pairs: str
    epoch: int
    accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """A run: its connections by name, their gain, and its seed."""

    connections: str
    gain: float
    seed: int

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.connections.replace(' ', '-')}-gain{self.gain:g}-seed{self.seed}"

    def of(self, row: Trained) -> bool:
        """Whether a row is of this run."""
        return (row.connections, row.gain, row.seed) == (self.connections, self.gain, self.seed) and row.epoch > 0


@dataclass(slots=True)
class Clock:
    """When to stop, in seconds of `time.monotonic`, and when the last epoch ended."""

    end: float
    before: float

    def after(self, event: object) -> None:
        """Called with what happens in training. Raises OutOfTimeError after an epoch when another would not fit."""
        if isinstance(event, Epoch):
            print(f"  epoch {event.epoch}: test {event.test_accuracy:.4f}, {event.seconds:.0f} s", flush=True)
        elif not (isinstance(event, search.Event) and event.stage == "gains"):
            return
        now = time.monotonic()
        last, self.before = now - self.before, now
        if now + 1.2 * last > self.end:
            raise OutOfTimeError


@dataclass(frozen=True, slots=True)
class Kept:
    """The table of all epochs, in a file."""

    path: Path

    def rows(self) -> tuple[Trained, ...]:
        """All rows."""
        return rows.read(self.path, Trained)

    def of(self, job: Job) -> list[Trained]:
        """The epochs of a run."""
        return [row for row in self.rows() if job.of(row)]

    def add(self, *more: Trained) -> None:
        """Add rows, which take the place of those of the same epochs."""
        found = {(r.connections, r.gain, r.seed, r.epoch): r for r in (*self.rows(), *more)}
        rows.write(self.path, Trained, found.values())

    @property
    def found(self) -> Architecture | None:
        """What the search has found, None where it has not ended."""
        return next((_pairs(row.pairs) for row in self.rows() if row.connections == FOUND), None)


def placement(spec: NetworkSpec, name: str) -> Architecture:
    """The connections of a name, but for those that a search finds."""
    if name == NONE:
        return ()
    if name == FRONT:
        last = len(spec.ports) - 1
        return tuple(sorted((last - place, 0) for place in range(COUNT)))
    draw = int(name.removeprefix(RANDOM))
    return tuple(sorted(keys.rng(draw, "fashion").sample(work.every_pair(spec), COUNT)))


def jobs(seeds: int) -> Iterator[Job]:
    """Everything to be trained, seed by seed."""
    for seed in range(seeds):
        for name in (NONE, FOUND, FRONT, *(f"{RANDOM} {draw}" for draw in range(DRAWS))):
            for gain in GAINS[:1] if name == NONE else GAINS:
                yield Job(name, gain, seed)


def searched(spec: NetworkSpec, out: Path, device: str, clock: Clock, kept: Kept) -> Architecture:
    """The connections that the search on a narrower network keeps; it resumes as well."""
    if kept.found is None:
        width = re.compile(r"(?<=backbone = )(\w+\(.*?width=)(\d+)")
        text = width.sub(lambda m: f"{m[1]}{int(m[2]) // NARROWER}", dsl.format_spec(spec))
        options = search.Options(accelerator=device)
        print("the search", flush=True)
        result = search.run(dsl.parse(text), out / "search", options=options, progress=clock.after)
        pairs = tuple((each.source, each.target) for each in result.best.backward)
        kept.add(Trained(FOUND, 0.0, 0, _text(pairs), 0, 0.0, 0.0))
    assert kept.found is not None
    return kept.found


def run(spec: NetworkSpec, out: Path, *, seeds: int, minutes: float, device: str, kept: Kept | None = None) -> None:
    """Train what is not finished, for so many minutes. `kept` is the table, by default one in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    kept = kept or Kept(out / "rows.csv")
    clock = Clock(time.monotonic() + 60 * minutes, time.monotonic())
    for job in jobs(seeds):
        if any(row.epoch == spec.train.epochs for row in kept.of(job)):
            continue
        name = job.connections
        pairs = searched(spec, out, device, clock, kept) if name == FOUND else placement(spec, name)
        wired = spec.with_backward(BackwardConnection(j, i, gain=job.gain) for j, i in pairs)
        print(f"{name}, gain {job.gain:g}, seed {job.seed}: {pairs}", flush=True)

        def progress(event: object, job: Job = job, pairs: Architecture = pairs) -> None:
            if isinstance(event, Epoch):
                kept.add(*_logged(out, job, pairs))
            clock.after(event)

        training.train(wired, out=out / job.folder, seed=job.seed, device=device, progress=progress)
        # Of a run that had ended no epoch was told.
        kept.add(*_logged(out, job, pairs))
        if time.monotonic() > clock.end:
            raise OutOfTimeError


def _logged(out: Path, job: Job, pairs: Architecture) -> Iterator[Trained]:
    """The epochs in the log of a run."""
    with (out / job.folder / "log.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            accuracy, seconds = float(row["test_accuracy"]), float(row["seconds"])
            yield Trained(job.connections, job.gain, job.seed, _text(pairs), int(row["epoch"]), accuracy, seconds)


def _text(pairs: Architecture) -> str:
    return " ".join(f"{j}>{i}" for j, i in pairs)


def _pairs(text: str) -> Architecture:
    found = (pair.split(">") for pair in text.split())
    return tuple((int(j), int(i)) for j, i in found)


def summary(kept: Kept) -> str:
    """Mean accuracy after the last epoch, by placement and gain."""
    last: dict[tuple[str, float, int], float] = {}
    for row in sorted(kept.rows(), key=lambda row: row.epoch):
        if row.epoch:
            last[row.connections, row.gain, row.seed] = row.accuracy
    values: dict[tuple[str, str], list[float]] = {}
    for (name, gain, _), accuracy in last.items():
        values.setdefault((name.partition(" ")[0], f"{gain:g}"), []).append(accuracy)
    lines = [
        (name, gain, f"{statistics.mean(some):.4f}", f"{min(some):.4f}", f"{max(some):.4f}", len(some))
        for (name, gain), some in sorted(values.items())
    ]
    return table(("connections", "gain", "accuracy", "lowest", "highest", "runs"), lines, right=range(1, 6))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.placement.fashion", description="Feedback in ResNet-18 on Fashion-MNIST"
    )
    parser.add_argument("--out", type=Path, default=Path("out/fashion"), help="the folder of the runs")
    parser.add_argument("--table", type=Path, help="the table of all epochs [default: rows.csv in --out]")
    parser.add_argument("--spec", type=Path, default=SPEC, help="what is trained")
    parser.add_argument("--root", type=Path, help="the folder with the files of the data set")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=7.5, help="stop after so many")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--summary", action="store_true", help="only print the table so far")
    asked = parser.parse_args(arguments)
    kept = Kept(asked.table or asked.out / "rows.csv")
    spec = dsl.load(asked.spec, settings=() if asked.root is None else (f'data.root="{asked.root}"',))
    try:
        if not asked.summary:
            run(spec, asked.out, seeds=asked.seeds, minutes=asked.minutes, device=asked.device, kept=kept)
    except (OutOfTimeError, KeyboardInterrupt):
        print("not finished: the same command resumes")
    print(summary(kept))


if __name__ == "__main__":
    sys.exit(main())
