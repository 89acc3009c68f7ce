"""`python -m benchmarks.placement.contest`: what each way to search reaches on each table, and for what cost.

Whole searches are replayed with every evaluation looked up. A seed has its scores, supernet and short training runs
(`values.py`); the pool, and what a training run of a search says, are drawn anew `DRAWS` times. Such a run is the mean
of the table, plus a deviation as between seeds (pooled over the better third), plus an error as of the validation
samples of the data set, which all runs of one network in one search share. Costs are processor seconds of one thread
(`costs.csv`) as multiples of one training run, with the training of the network that is found where the search leaves
it untrained. Regret is the mean of the best of the table minus that of the network found.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from bcgraph import dsl, keys
from bcgraph.schema import SearchSpec
from bcgraph.search.predictors.standard.additive import additive
from bcgraph.search.predictors.standard.fused import fused
from benchmarks.placement import other_tables, replay, rows, values
from benchmarks.placement.costs import COSTS, Cost
from benchmarks.placement.predictors import TENTH, BySeed, Pairs, late_rule, read_values, rule
from benchmarks.placement.text import markdown

DRAWS = 20
SAMPLES = {"digits_rows": 240, "japanese_vowels": 54, "fashion_rows": 400, "plain_digits_rows": 240}
"""Validation samples of a search."""
SHOT = "supernet20r8"
ETA = 3


FREE: Mapping[str, Callable[[Pairs], float]] = {"locality": rule, "late_locality": late_rule}
"""What needs no network."""


@dataclass(frozen=True)
class Table:
    """What is known of all architectures of a data set: `means` of test accuracies, what predictors say by seed.

    `spread` is the deviation between seeds, `epochs` those of a training run.
    """

    name: str
    order: tuple[Pairs, ...]
    means: Mapping[Pairs, float]
    spread: float
    values: Mapping[str, BySeed]
    cost: Cost
    epochs: int

    @property
    def best(self) -> set[Pairs]:
        """The best tenth."""
        return set(sorted(self.order, key=lambda a: -self.means[a])[: max(1, len(self.order) // TENTH)])

    def column(self, name: str, seed: int) -> dict[Pairs, float]:
        """What a predictor says, by architecture; those of `FREE` need no network."""
        if name in FREE:
            return {a: FREE[name](a) for a in self.order}
        return dict(zip(self.order, self.values[name][seed], strict=True))

    def seeds(self, names: Sequence[str]) -> list[int]:
        """The seeds that have all of these predictors."""
        known = [set(self.values.get(name, {})) for name in names if name not in FREE]
        return sorted(set.intersection(*known)) if known else list(range(20))


@dataclass
class Search:
    """One replayed search: its draws, what it has seen, and what it has spent, in training runs."""

    table: Table
    seed: int
    rng: random.Random
    spent: float = 0.0
    errors: dict[Pairs, float] = field(default_factory=dict)

    def scored(self, names: Sequence[str], drawn: Sequence[Pairs], choose: Callable[..., list[float]]) -> list[Pairs]:
        """`drawn` in the order that a predictor makes of scores; those of `FREE` cost nothing."""
        measured = any(name not in FREE for name in names)
        self.spent += measured * len(drawn) * self.table.cost.score / self.table.cost.training
        columns = {name: self.table.column(name, self.seed) for name in names}
        found = choose(drawn, {name: [column[a] for a in drawn] for name, column in columns.items()})
        worth = dict(zip(drawn, found, strict=True))
        return sorted(drawn, key=lambda a: (-worth[a], self.rng.random()))

    def trained(self, a: Pairs, seeds: int = 1) -> float:
        """The mean validation accuracy of whole training runs."""
        self.spent += seeds
        mean = self.table.means[a]
        if a not in self.errors:
            samples = SAMPLES[self.table.name]
            self.errors[a] = self.rng.gauss(0, math.sqrt(mean * (1 - mean) / samples))
        return mean + self.errors[a] + statistics.fmean(self.rng.gauss(0, self.table.spread) for _ in range(seeds))

    def short(self, some: Sequence[Pairs], name: str) -> list[Pairs]:
        """`some` in the order of training runs of a ninth or a third of the epochs."""
        epochs = self.table.epochs
        self.spent += len(some) * max(1, round(epochs / int(name.removeprefix("short")))) / epochs
        found = self.table.column(name, self.seed)
        return sorted(some, key=lambda a: (-found[a], self.rng.random()))

    def supernet(self) -> None:
        """Train one."""
        self.spent += self.table.cost.supernet / self.table.cost.training

    def evaluated(self, number: int) -> None:
        """So many accuracies on its weights."""
        self.spent += number * self.table.cost.evaluation / self.table.cost.training


Way = Callable[[Search], Pairs]


def by_chance(number: int) -> Way:
    """Train so many random architectures, with one seed each."""

    def way(search: Search) -> Pairs:
        drawn = search.rng.sample(search.table.order, number)
        return max(drawn, key=search.trained) if number > 1 else _final(search, drawn[0])

    return way


@cache
def _settings() -> SearchSpec:
    """Those of the search of the digits."""
    return dsl.load(values.SPEC).search


def paper(search: Search) -> Pairs:
    """The paper's two steps as `specs/tiny_digits_rows.bcg` scales them: 8 of 60 kept, five iterations of 8."""
    table = search.table
    lookup = replay.Lookup(*(table.column(name, search.seed) for name in ("n", "e", SHOT)))
    settings = _settings()
    search.spent += settings.init.pool * table.cost.score / table.cost.training
    search.supernet()
    found = replay.search(settings.init, settings.evolve, lookup, search.rng.randrange(2**31))
    search.evaluated(len(found))
    return _final(search, replay.best(found, "accuracy"))


def sifted(search: Search) -> Pairs:
    """The twelve of the whole space with the highest E-score, compared on a supernet."""
    kept = search.scored(("e",), search.table.order, as_they_are)[:12]
    search.supernet()
    search.evaluated(len(kept))
    found = search.table.column(SHOT, search.seed)
    return _final(search, max(kept, key=lambda a: found[a]))


def halving(pool: int) -> Way:
    """Successive halving by threes from a random pool."""
    return lambda search: _halved(search, search.rng.sample(search.table.order, pool))


def scored(names: Sequence[str], choose: Callable[..., list[float]], top: int, seeds: int, pool: int = 121) -> Way:
    """Train the best of a pool by scores."""

    def way(search: Search) -> Pairs:
        drawn = search.rng.sample(search.table.order, pool)
        best = search.scored(names, drawn, choose)[:top]
        if not seeds:
            return _final(search, best[0])
        found = {a: search.trained(a, seeds) for a in best}
        return max(best, key=lambda a: found[a])

    return way


def scored_and_halved(names: Sequence[str], choose: Callable[..., list[float]], keep: int) -> Way:
    """Successive halving from the best of the whole space by scores."""
    return lambda search: _halved(search, search.scored(names, search.table.order, choose)[:keep])


def _halved(search: Search, some: Sequence[Pairs]) -> Pairs:
    """Rungs of a ninth, a third and all epochs, as many as there are candidates for."""
    left = list(some)
    for name in ("short9", "short3") if len(left) >= ETA**3 else ("short3",):
        left = search.short(left, name)[: max(1, len(left) // ETA)]
    found = {a: search.trained(a) for a in left}
    return max(left, key=lambda a: found[a])


def as_they_are(drawn: Sequence[Pairs], measures: Mapping[str, Sequence[float]]) -> list[float]:
    """The scores as they are."""
    (values,) = measures.values()
    return list(values)


def _final(search: Search, found: Pairs) -> Pairs:
    search.spent += 1
    return found


EARLIER, BOTH = ("e", "locality"), ("e", "late_locality")
RECIPE = "E-score and late locality, best 2 trained: the recipe"

WAYS: Mapping[str, tuple[Way, tuple[str, ...]]] = {
    **{f"random, {n} trained": (by_chance(n), ()) for n in (1, 4, 16, 48)},
    "paper": (paper, ("n", "e", SHOT)),
    "sifted by E-score": (sifted, ("e", SHOT)),
    **{f"halving of {n}": (halving(n), ("short9", "short3")) for n in (9, 27, 81)},
    "locality, the favorite": (scored(("locality",), additive, 1, 0), ("locality",)),
    "late locality, the favorite": (scored(("late_locality",), additive, 1, 0), ("late_locality",)),
    "E-score and locality, the favorite": (scored(EARLIER, additive, 1, 0), EARLIER),
    "E-score and locality, best 2 trained": (scored(EARLIER, additive, 2, 1), EARLIER),
    "E-score and locality, best 5 trained 3 times": (scored(EARLIER, additive, 5, 3), EARLIER),
    "E-score and late locality, the favorite": (scored(BOTH, additive, 1, 0), BOTH),
    RECIPE: (scored(BOTH, additive, 2, 1), BOTH),
    "the same from half of the space": (scored(BOTH, additive, 2, 1, pool=60), BOTH),
    "E-score and late locality, best 3 trained": (scored(BOTH, additive, 3, 1), BOTH),
    "E-score and late locality, best 5 trained 3 times": (scored(BOTH, additive, 5, 3), BOTH),
    "the same by fused ranks, best 2 trained": (scored(BOTH, fused, 2, 1), BOTH),
    "E-score and late locality, halving of 9": (scored_and_halved(BOTH, additive, 9), (*BOTH, "short3")),
}
"""Each way, and the predictors that it asks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a way reaches on a table: means over seeds and draws."""

    way: str
    seeds: int
    regret: float
    tenth: float
    cost: float


def outcomes(table: Table) -> Iterator[Outcome]:
    """Every way that the table has the predictors for."""
    best = max(table.means.values())
    for name, (way, needs) in WAYS.items():
        seeds = table.seeds(needs)
        found: list[tuple[Pairs, float]] = []
        for seed in seeds:
            for draw in range(DRAWS):
                search = Search(table, seed, keys.rng(seed, "contest", name, draw))
                chosen = way(search)
                found.append((chosen, search.spent))
        if found:
            yield Outcome(
                name,
                len(seeds),
                statistics.fmean(best - table.means[a] for a, _ in found),
                statistics.fmean(a in table.best for a, _ in found),
                statistics.fmean(spent for _, spent in found),
            )


@cache
def read(name: str) -> Table:
    """A table with its values and costs."""
    runs = other_tables.accuracies(name)
    order = tuple(sorted(runs))
    means = {a: statistics.fmean(runs[a]) for a in order}
    better = sorted(order, key=lambda a: -means[a])[: len(order) // 3]
    spread = math.sqrt(statistics.fmean(statistics.variance(runs[a]) for a in better))
    cost = next(each for each in rows.read(COSTS, Cost) if each.table == name)
    epochs = dsl.load(other_tables.TABLES_OF[name][1]).train.epochs
    return Table(name, order, means, spread, read_values(other_tables.VALUES_OF[name], order), cost, epochs)


@cache
def result(name: str) -> tuple[Outcome, ...]:
    """The outcomes on a table."""
    return tuple(outcomes(read(name)))


def table() -> str:
    """Share in the best tenth, regret and cost, by table."""
    names = list(other_tables.TABLES_OF)
    by = {name: {each.way: each for each in result(name)} for name in names}
    lines = []
    for way in WAYS:
        cells: list[str] = []
        for name in names:
            one = by[name].get(way)
            cells.append("" if one is None else f"{one.tenth:.0%}, {one.regret:.3f}, {one.cost:.0f}")
        lines.append((way, *cells))
    return markdown(("way", *names), lines, right=range(1, 1 + len(names)))


def main() -> None:
    """The command."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(table())


if __name__ == "__main__":
    main()
