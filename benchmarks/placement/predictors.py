"""How well predictors rank the architectures of a table of trained ones, and what each adds to a simple rule.

    python -m benchmarks.placement.predictors [--table CSV] [--values CSV] [--spec SPEC] [--json]

`--table` holds trainings (`backward`, `seed`, `accuracy` and whatever else), `--values` what predictors say of every
architecture, by seed (`seed`, `backward`, a column for each predictor); without it the rules are judged alone. The rule
is the number of connections minus their summed distance, the distance of `j->i` being j - i ports. Correlations given
the rule are Spearman's partial ones; given the three numbers, those of what linear models of the ranks of the number of
connections, their summed distance and their summed target leave.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from bcgraph import dsl, pruning
from bcgraph.search.scores.rank_correlation import pearson, ranks, spearman
from benchmarks.placement.records import TABLE
from benchmarks.placement.values import VALUES

SPEC = Path(__file__).parents[2] / "specs" / "tiny_digits_rows.bcg"
PORTS = 5
RESAMPLED = 200
TENTH = 10
RIDGE = 1.0

Pairs = tuple[tuple[int, int], ...]
Column = tuple[float, ...]
BySeed = Mapping[int, Column]


@dataclass(frozen=True)
class Judged:
    """How a predictor does, over its seeds: mean Kendall correlation with the truth and its 95 % interval, mean partial
    Spearman correlations given the rule and given the three numbers (None for what follows from them), and the share of
    seeds whose favorite is in the best tenth; of equal favorites each counts by its share."""

    name: str
    seeds: int
    kendall: float
    low: float
    high: float
    spearman: float
    partial: float | None
    beyond: float | None
    tenth: float


def pairs(written: str) -> Pairs:
    """The connections of a row: `none`, or `4>0 3>1`."""
    if written == "none":
        return ()
    return tuple((int(j), int(i)) for j, i in (each.split(">") for each in written.split()))


def read_table(path: Path) -> dict[Pairs, float]:
    """The mean accuracy of each architecture."""
    found: dict[Pairs, list[float]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found[pairs(row["backward"])].append(float(row["accuracy"]))
    return {architecture: statistics.fmean(values) for architecture, values in found.items()}


def read_values(path: Path, order: Sequence[Pairs]) -> dict[str, BySeed]:
    """For each predictor what it says of all architectures, by seed; seeds for which it lacks one are left out."""
    found: dict[str, dict[int, dict[Pairs, float]]] = defaultdict(lambda: defaultdict(dict))
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            seed, architecture = int(row.pop("seed")), pairs(row.pop("backward"))
            for name, value in row.items():
                if value not in ("", None):
                    found[name][seed][architecture] = float(value)
    return {
        name: {seed: tuple(values[a] for a in order) for seed, values in seeds.items() if values.keys() >= set(order)}
        for name, seeds in found.items()
    }


def rule(architecture: Pairs) -> float:
    """Connections minus their summed distance."""
    return len(architecture) - sum(j - i for j, i in architecture)


def late_rule(architecture: Pairs) -> float:
    """The same, and of equals those with the later targets: the score `late_locality`."""
    late = statistics.fmean(i for _, i in architecture) / PORTS if architecture else 0.0
    return rule(architecture) + late


def fused(*columns: Column) -> Column:
    """The sum of ranks."""
    return tuple(sum(each) for each in zip(*map(ranks, columns), strict=True))


def additive(order: Sequence[Pairs], column: Column) -> Column:
    """A column smoothed: ridge regression of its ranks on the connections that an architecture holds."""
    every = sorted({pair for architecture in order for pair in architecture})
    x = np.array([[float(pair in architecture) for pair in every] for architecture in order])
    y = np.array(ranks(column))
    centered = x - x.mean(0)
    weights = np.linalg.solve(centered.T @ centered + RIDGE * np.eye(len(every)), centered.T @ (y - y.mean()))
    return tuple(float(v) for v in centered @ weights + y.mean())


def explained(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The share of the variance of y that a linear model of x explains."""
    design = np.column_stack([np.ones(len(y)), x])
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return float(1 - rest.var() / y.var())


def partial(a: Sequence[float], b: Sequence[float], *given: Sequence[float]) -> float | None:
    """Spearman's partial correlation of a and b given others; None where these determine one of them."""
    design = np.column_stack([np.ones(len(a)), *map(ranks, given)])
    left = []
    for values in (a, b):
        y = np.array(ranks(values))
        rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        if rest.std() < 1e-6 * max(1.0, y.std()):
            return None
        left.append(rest)
    return pearson(left[0].tolist(), left[1].tolist())


def predictors(order: Sequence[Pairs], values: Mapping[str, BySeed], spec: Path) -> dict[str, list[Column]]:
    """Every predictor: rules without a network, those of the table of values, and what is made of them."""
    cost = pruning.costs(dsl.load(spec).with_backward(()))
    rules: dict[str, Callable[[Pairs], float]] = {
        "fewest operations": lambda a: -float(sum(cost[pair] for pair in a)),
        "number of connections": lambda a: float(len(a)),
        "connections - distance": rule,
        "late locality": late_rule,
    }
    made = {name: [tuple(map(of, order))] for name, of in rules.items()}
    made |= {name: list(by_seed.values()) for name, by_seed in values.items()}
    shot = next((name for name in values if name.startswith("supernet")), "supernet")
    distance = tuple(map(rule, order))
    for names in (("e",), (shot,), ("short3",), ("e", shot), ("e", "short3")):
        if not {*names} <= values.keys():
            continue
        seeds = sorted(set.intersection(*(set(values[name]) for name in names)))
        added = [fused(*(values[name][seed] for name in names)) for seed in seeds]
        made |= {" + ".join(names): added} if len(names) > 1 else {}
        made[f"{' + '.join(names)}, additive"] = [additive(order, column) for column in added]
        made[f"{' + '.join(names)} + rule"] = [fused(column, distance) for column in added]
    return made


def judge(name: str, columns: Sequence[Column], truth: Column, given: Column, three: Sequence[Column]) -> Judged:
    """How a predictor does. The interval is over architectures and seeds, both drawn with replacement."""
    rng = random.Random(0)
    arrays, true = [np.array(column) for column in columns], np.array(truth)
    means = []
    for _ in range(RESAMPLED):
        chosen = [rng.randrange(len(truth)) for _ in truth]
        drawn = [rng.choice(arrays) for _ in arrays]
        means.append(statistics.fmean(_kendall(column[chosen], true[chosen]) for column in drawn))
    means.sort()
    partials = [partial(column, truth, given) for column in columns]
    beyond = [partial(column, truth, *three) for column in columns]
    return Judged(
        name,
        len(columns),
        statistics.fmean(_kendall(column, true) for column in arrays),
        means[RESAMPLED // 40],
        means[-RESAMPLED // 40 - 1],
        statistics.fmean(spearman(column, truth) for column in columns),
        _mean(partials),
        _mean(beyond),
        statistics.fmean(_in_the_best_tenth(column, truth) for column in columns),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return statistics.fmean(known) if known else None


def _kendall(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    found = float(kendalltau(a, b).statistic)
    return 0.0 if np.isnan(found) else found


def _in_the_best_tenth(column: Column, truth: Column) -> float:
    best = sorted(range(len(truth)), key=lambda i: -truth[i])[: max(1, len(truth) // TENTH)]
    favorites = [i for i, value in enumerate(column) if value == max(column)]
    return sum(i in best for i in favorites) / len(favorites)


def judged(table: Path, values: Path | None, spec: Path) -> tuple[list[Judged], dict[str, float]]:
    """Every predictor judged on a table, and the shares of its variance that simple models explain."""
    found = read_table(table)
    order = sorted(found)
    truth = tuple(found[a] for a in order)
    given = tuple(map(rule, order))
    columns = predictors(order, read_values(values, order) if values is not None else {}, spec)
    every = sorted({pair for architecture in order for pair in architecture})
    held = np.array([[float(pair in a) for pair in every] for a in order])
    three = np.array([[len(a), sum(j - i for j, i in a), sum(i for _, i in a)] for a in order], dtype=float)
    shares = {
        "single connections": explained(held, np.array(truth)),
        "connections, distance, target": explained(three, np.array(truth)),
    }
    numbers = [tuple(column) for column in three.T.tolist()]
    return [judge(name, each, truth, given, numbers) for name, each in columns.items() if each], shares


def markdown(rows: Sequence[Judged]) -> str:
    """The rows as a table of a page."""
    lines = [
        "| predictor | seeds | Kendall | 95 % | Spearman | given the rule | given three numbers | in the best tenth |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in rows:
        partials = ["" if value is None else f"{value:+.2f}" for value in (row.partial, row.beyond)]
        lines.append(
            f"| {row.name} | {row.seeds} | {row.kendall:+.2f} | {row.low:+.2f} to {row.high:+.2f} "
            f"| {row.spearman:+.2f} | {partials[0]} | {partials[1]} | {row.tenth:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--values", type=Path, default=None)
    parser.add_argument("--spec", type=Path, default=SPEC, help="a file with the network of the table")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    values = given.values or (VALUES if given.table == TABLE else None)
    rows, shares = judged(given.table, values, given.spec)
    if given.json:
        print(json.dumps({"predictors": [asdict(row) for row in rows], "explained": shares}, indent=1))
        return
    print(markdown(rows))
    for name, share in shares.items():
        print(f"\na linear model of {name} explains {share:.0%} of the variance of the means")


if __name__ == "__main__":
    main()
