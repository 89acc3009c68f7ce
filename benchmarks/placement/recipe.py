"""How often the recommended recipe ends in the best tenth of a table, replayed with every training run looked up.

    python -m benchmarks.placement.recipe [--table CSV] [--values CSV] [--noise X]

A search draws a pool, smooths or fuses its scores as `choose` says, and trains the best few. Each seed of `--values`
(as `predictors.py` reads it, with a column `e`) is one initialization and batch, searched with several draws of the
pool. The last stage takes some of the table's own seeds and adds noise to each training run: the table has accuracies
on the test part, where a search sees fewer validation samples.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bcgraph.search.predictors.standard.additive import additive
from bcgraph.search.predictors.standard.fused import fused
from benchmarks.placement import records
from benchmarks.placement.predictors import TENTH, Pairs, pairs, read_values, rule
from benchmarks.placement.records import TABLE
from benchmarks.placement.values import VALUES

Predict = Callable[[Sequence[Pairs], Mapping[str, Sequence[float | None]]], list[float]]

CHOICES: Mapping[str, Predict] = {"additive": additive, "fused": fused}
COLUMNS = (("e", "locality"), ("locality",), ("e",), ("e", "supernet20"))
TRAINED = ((1, 0), (1, 1), (3, 1), (3, 3), (5, 3))
"""How many of the best are trained, with how many seeds; 0 takes the favorite untrained."""
SHARES = (1, 2, 4)
"""The pool: the whole space, a half, a quarter."""
DRAWS = 10


def read_runs(path: Path) -> dict[Pairs, list[float]]:
    """The accuracies of each architecture, one for each seed."""
    found = records.by_architecture(records.read(path))
    return {pairs(written): accuracies for written, accuracies in found.items()}


def trained(
    runs: Mapping[Pairs, Sequence[float]], best: Sequence[Pairs], seeds: int, noise: float, rng: random.Random
) -> Pairs:
    """The one of `best` that the last stage chooses."""
    if not seeds:
        return best[0]
    means = {a: statistics.fmean(v + rng.gauss(0, noise) for v in rng.sample(list(runs[a]), seeds)) for a in best}
    return max(means, key=lambda a: means[a])


def share(
    runs: Mapping[Pairs, Sequence[float]],
    columns: Sequence[Mapping[Pairs, Sequence[float]]],
    predict: Predict,
    pool: int,
    top: int,
    seeds: int,
    noise: float,
) -> float:
    """The share of searches that end in the best tenth. `columns` are, by seed, the scores of each architecture."""
    truth = {a: statistics.fmean(v) for a, v in runs.items()}
    tenth = set(sorted(truth, key=lambda a: -truth[a])[: max(1, len(truth) // TENTH)])
    rng = random.Random(0)
    hits = 0
    for scores in columns:
        for _ in range(DRAWS):
            drawn = rng.sample(sorted(runs), pool)
            width = len(scores[drawn[0]])
            values = predict(drawn, {str(k): [scores[a][k] for a in drawn] for k in range(width)})
            order = sorted(range(pool), key=lambda k: (-values[k], rng.random()))
            hits += trained(runs, [drawn[k] for k in order[:top]], seeds, noise, rng) in tenth
    return hits / (len(columns) * DRAWS)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--values", type=Path, default=VALUES)
    parser.add_argument("--noise", type=float, default=0.022, help="of a validation accuracy, beside that of the seed")
    given = parser.parse_args()
    runs = read_runs(given.table)
    order = sorted(runs)
    values = read_values(given.values, order)
    distance = tuple(map(rule, order))
    print("| scores | choose | pool | " + " | ".join(f"{top} x {seeds}" for top, seeds in TRAINED) + " |")
    print("|---|---|--:|" + "--:|" * len(TRAINED))
    for names in COLUMNS:
        if not {*names} <= {*values, "locality"}:
            continue
        seeds = sorted(set.intersection(*(set(by) for n, by in values.items() if n in names or names == ("locality",))))
        columns = [
            {a: [distance[k] if n == "locality" else values[n][seed][k] for n in names] for k, a in enumerate(order)}
            for seed in seeds
        ]
        for choose, predict in CHOICES.items():
            for part in SHARES:
                pool = len(order) // part
                found = [share(runs, columns, predict, pool, top, n, given.noise) for top, n in TRAINED]
                print(f"| {', '.join(names)} | {choose} | {pool} | " + " | ".join(f"{v:.0%}" for v in found) + " |")


if __name__ == "__main__":
    main()
