"""`python -m benchmarks.placement.fashion`: feedback in ResNet-18 on all of Fashion-MNIST, in pieces of a few minutes.

Meant for a GPU that is there for minutes: `--minutes 8` ends after a whole epoch within that time, and the same command
with the same `--out` resumes, also on another machine to which the folder was copied. For each seed, trained as
`specs/resnet18_fashion.bcg` says:

- `none`: no connection;
- `found`: the four that `strategy = gains` keeps on a network of a quarter of the width, searched once;
- `front`: four connections from the last ports to the first, where the paper finds feedback;
- `random 0` to `random 2`: four connections drawn by chance;

each with connections at gain 1 and at gain 0.1. The table at the end has the accuracies of the last epoch on the test
part, also of what is not finished. For scale: PLIF (Fang et al. 2021) reports 94.38 % with T = 8.
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

from bcgraph import dsl, keys, schema, search, training
from bcgraph.cli.output import table
from bcgraph.schema import BackwardConnection, NetworkSpec
from bcgraph.search.space.search_space import Architecture
from bcgraph.training.events import Epoch
from benchmarks.placement import work

SPEC = Path(__file__).parents[2] / "specs" / "resnet18_fashion.bcg"
COUNT = 4
DRAWS = 3
GAINS = (1.0, 0.1)
NARROWER = 4


class OutOfTimeError(Exception):
    """The minutes are over."""


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


def placements(spec: NetworkSpec, found: Architecture) -> dict[str, Architecture]:
    """What is trained, by name."""
    last = len(spec.ports) - 1
    pairs = work.every_pair(spec)
    made: dict[str, Architecture] = {"none": (), "found": found}
    made["front"] = tuple(sorted((last - place, 0) for place in range(COUNT)))
    for draw in range(DRAWS):
        made[f"random {draw}"] = tuple(sorted(keys.rng(draw, "fashion").sample(pairs, COUNT)))
    return made


def jobs(spec: NetworkSpec, found: Architecture, seeds: int) -> Iterator[tuple[str, float, Architecture, int]]:
    """Everything to be trained, seed by seed."""
    for seed in range(seeds):
        for name, pairs in placements(spec, found).items():
            for gain in GAINS if pairs else GAINS[:1]:
                yield name, gain, pairs, seed


def searched(spec: NetworkSpec, out: Path, device: str, clock: Clock) -> Architecture:
    """The connections that the search on a narrower network keeps; it resumes as well."""
    width = re.compile(r"(?<=backbone = )(\w+\(.*?width=)(\d+)")
    text = width.sub(lambda m: f"{m[1]}{int(m[2]) // NARROWER}", dsl.format_spec(spec))
    options = search.Options(accelerator=device)
    result = search.run(dsl.parse(text), out / "search", options=options, progress=clock.after)
    return tuple((each.source, each.target) for each in result.spec.backward)


def run(spec: NetworkSpec, out: Path, *, seeds: int, minutes: float, device: str) -> None:
    """Train what is not finished, for so many minutes."""
    clock = Clock(time.monotonic() + 60 * minutes, time.monotonic())
    found = searched(spec, out, device, clock)
    for name, gain, pairs, seed in jobs(spec, found, seeds):
        wired = spec.with_backward(BackwardConnection(j, i, gain=gain) for j, i in pairs)
        folder = out / f"{name.replace(' ', '-')}-gain{gain:g}-seed{seed}"
        if _accuracies(folder)[spec.train.epochs - 1 :]:
            continue
        print(f"{name}, gain {gain:g}, seed {seed}: {pairs}", flush=True)
        training.train(wired, out=folder, seed=seed, device=device, progress=clock.after)
        if time.monotonic() > clock.end:
            raise OutOfTimeError


def _accuracies(folder: Path) -> list[float]:
    """The accuracies on the test part of the epochs that a run has finished."""
    log = folder / "log.csv"
    if not log.exists():
        return []
    with log.open(newline="", encoding="utf-8") as stream:
        return [float(row["test_accuracy"]) for row in csv.DictReader(stream)]


def summary(out: Path) -> str:
    """Mean accuracy after the last epoch, by placement and gain."""
    values: dict[tuple[str, str], list[float]] = {}
    for log in sorted(out.glob("*-gain*-seed*/log.csv")):
        name, gain, _ = log.parent.name.rsplit("-", 2)
        values.setdefault((name.partition("-")[0], gain.removeprefix("gain")), []).append(_accuracies(log.parent)[-1])
    lines = [
        (name, gain, f"{statistics.mean(some):.4f}", f"{min(some):.4f}", f"{max(some):.4f}", len(some))
        for (name, gain), some in sorted(values.items())
    ]
    return table(("connections", "gain", "accuracy", "lowest", "highest", "runs"), lines, right=range(1, 6))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.placement.fashion", description="Feedback in ResNet-18 on Fashion-MNIST"
    )
    parser.add_argument("--out", type=Path, default=Path("out/fashion"), help="the folder of the runs")
    parser.add_argument("--spec", type=Path, default=SPEC, help="what is trained")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=7.5, help="stop after so many")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--summary", action="store_true", help="only print the table so far")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    spec: schema.NetworkSpec = dsl.load(asked.spec)
    try:
        if not asked.summary:
            run(spec, asked.out, seeds=asked.seeds, minutes=asked.minutes, device=asked.device)
    except (OutOfTimeError, KeyboardInterrupt):
        print("not finished: the same command resumes")
    print(summary(asked.out))


if __name__ == "__main__":
    sys.exit(main())
