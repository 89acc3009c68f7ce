"""`python -m benchmarks.placement`: train all 121 architectures of `tiny` on a data set, with several seeds.

Each architecture and seed is trained as a specification says, `specs/tiny_digits_rows.bcg` unless `--spec` names
another, and kept in a CSV file as soon as it is done; the same command goes on with what is missing. `--at-most 1`
trains the network without connections and those with one. `--summary` prints the ranking so far. Accuracies are those
of the last epoch on the test part.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from bcgraph import dsl, files
from bcgraph.cli.output import table
from bcgraph.errors import BcgraphError
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.pairs import Space
from benchmarks.placement import records
from benchmarks.placement.records import Record
from benchmarks.placement.work import extend, extend_by, jobs, train, train_side_by_side

SPEC = Path(__file__).parents[2] / "specs" / "tiny_digits_rows.bcg"


def run(
    spec: NetworkSpec,
    path: Path,
    *,
    seeds: int,
    workers: int,
    limit: int | None = None,
    at_most: int | None = None,
    together: int = 1,
) -> None:
    """Train what is missing in `path`, at most `limit` of it, of architectures with `at_most` so many connections.

    So many at once in each process as `together` says.
    """
    with files.locked(path.parent):
        done = known(spec, path)
        keys = {record.key for record in done}
        asked = [job for job in jobs(spec, seeds) if at_most is None or len(job[1]) <= at_most]
        missing = [job for job in asked if (records.written(job[1]), job[2]) not in keys][:limit]
        if together > 1:
            extend_by(path, Record, done, missing, train_side_by_side, together, workers=workers, say=_say)
        else:
            extend(path, Record, done, missing, train, workers=workers, say=_say)


def _say(record: Record) -> None:
    print(f"{record.backward}, seed {record.seed}: {record.accuracy:.4f} in {record.seconds:.0f} s", flush=True)


def known(spec: NetworkSpec, path: Path) -> tuple[Record, ...]:
    """The records in `path`, which must be of trainings with the settings of `spec`."""
    found = records.read(path)
    if any(record.settings != records.settings_of(spec) for record in found):
        raise ValueError(f"{path} holds trainings with other settings than `{spec.name}`: name another file")
    return found


def summary(spec: NetworkSpec, found: tuple[Record, ...], top: int) -> str:
    """The best architectures, the one without connections, and what connections to each port are worth."""
    accuracies = records.by_architecture(found)
    ranked = sorted(accuracies, key=lambda name: (-statistics.mean(accuracies[name]), name))
    size = Space(len(spec.ports), spec.search.max_backward).size
    if not ranked:
        return "nothing is trained yet"
    rows = []
    for rank, name in enumerate(ranked, start=1):
        if rank <= top or name == "none":
            values = accuracies[name]
            spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-"
            rows.append((rank, name, f"{statistics.mean(values):.4f}", spread, len(values)))
    parts = [
        f"{len(found)} trainings, {len(ranked)} of {size} architectures",
        table(("rank", "connections", "accuracy", "deviation", "seeds"), rows, right=(0, 2, 3, 4)),
    ]
    for side, place in (("target", 1), ("source", 0)):
        means = []
        for port, label in enumerate(spec.ports):
            ends = {name: {pair.split(">")[place] for pair in name.split()} for name in ranked if name != "none"}
            values = [value for name, given in ends.items() if str(port) in given for value in accuracies[name]]
            means.append((f"@{port}", label, f"{statistics.mean(values):.4f}" if values else "-", len(values)))
        parts.append(table((side, "port", "mean accuracy", "trainings"), means, right=(2, 3)))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.placement", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--spec", type=Path, default=SPEC, help="what is trained, with other connections")
    parser.add_argument("--at-most", type=int, default=None, help="connections of an architecture")
    parser.add_argument("--out", type=Path, default=Path("out/placement/placement.csv"), help="the CSV file")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each architecture")
    parser.add_argument("--workers", type=int, default=2, help="processes, each on one thread")
    parser.add_argument("--limit", type=int, default=None, help="stop after so many trainings")
    parser.add_argument("--together", type=int, default=1, help="training runs at once in each process, side by side")
    parser.add_argument("--summary", action="store_true", help="only print the ranking so far")
    parser.add_argument("--top", type=int, default=10, help="how many of the best to print")
    asked = parser.parse_args()
    spec = dsl.load(asked.spec)
    try:
        if not asked.summary:
            run(
                spec,
                asked.out,
                seeds=asked.seeds,
                workers=asked.workers,
                limit=asked.limit,
                at_most=asked.at_most,
                together=asked.together,
            )
        print(summary(spec, known(spec, asked.out), asked.top))
    except (BcgraphError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")


if __name__ == "__main__":
    main()
