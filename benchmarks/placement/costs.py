"""`python -m benchmarks.placement.costs`: what the parts of a search cost on each data set, in processor seconds.

On one thread, for the network of each table: one training run, N- and E-score of one architecture, a supernet of 20
epochs, and the accuracy of one architecture on its weights with recalibrated batch norms. `costs.csv` keeps them, for
`contest.py`, which replays whole searches on the tables.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.placement import rows, values, work
from benchmarks.placement.other_tables import TABLES_OF

COSTS = Path(__file__).with_name("costs.csv")
SHOT = values.Shot(20, values.RECALIBRATE)
MEASURED = 12
"""Architectures that are scored and evaluated: their mean counts."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds of the parts, for the network of one table."""

    table: str
    training: float
    score: float
    supernet: float
    evaluation: float


def measure(table: str, path: Path) -> Cost:
    """The costs for the network of a file, on one thread."""
    from bcgraph.search.evaluators import Standard
    from bcgraph.search.supernet.one_shot import OneShot
    from bcgraph.search.supernet.supernet import Supernet

    spec = values.searched(SHOT.epochs, path)
    space = values.architectures()
    some = [spec.with_backward(space.architecture(k)) for k in range(0, space.size, space.size // MEASURED)][:MEASURED]
    with work.one_thread(), tempfile.TemporaryDirectory() as folder:
        standard = Standard(spec, 0, Path(folder), inits=1, score_dtype="float32")
        train, validation = standard.splits
        list(standard.init()(some[:1]))
        scorer = standard.init()
        score = _seconds(lambda: list(scorer(some))) / len(some)
        supernet = Supernet(spec, 0, train)
        trained = _seconds(lambda: supernet.train(Path(folder), lambda _: None))
        shot = OneShot(supernet, validation, SHOT.recalibrate)
        evaluation = _seconds(lambda: list(shot(some))) / len(some)
        training = _seconds(lambda: work.outcome(some[1], 0))
    return Cost(table, *(round(each, 2) for each in (training, score, trained, evaluation)))


def _seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement.costs", description="Costs of a search")
    parser.add_argument("--out", type=Path, default=COSTS, help="the CSV file")
    asked = parser.parse_args()
    found = list(rows.read(asked.out, Cost))
    for table, (_, path) in TABLES_OF.items():
        if table not in {each.table for each in found}:
            found.append(measure(table, path))
            rows.write(asked.out, Cost, found)
            print(found[-1], flush=True)


if __name__ == "__main__":
    main()
