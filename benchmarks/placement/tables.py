"""What the kept runs say, as tables: placements, predictors, parts of the method, strategies."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from scipy.stats import kendalltau, wilcoxon

from bcgraph import dsl, keys
from bcgraph.schema import EvolveSpec, InitSpec
from bcgraph.search.records.evaluations import fitness
from bcgraph.search.scores.rank_correlation import ranks as ranking
from bcgraph.search.space.search_space import Architecture
from benchmarks.placement import contest, gain_tables, other_tables, records, replay, values
from benchmarks.placement.__main__ import SPEC, known
from benchmarks.placement.replay import Lookup
from benchmarks.placement.text import markdown

RESAMPLED = 1000
DRAWS = 10
"""Searches with the same predictors, differing in the draws of the search alone; their mean is what a seed gives."""

REGRET_DRAWS = 3
"""The same for regret, where Optuna's samplers are asked for most of the space."""

SHOT = "supernet20"
"""What stands for one-shot accuracy; the other is the same supernet with recalibrated batch norms."""

CHOSEN_ON = 10
"""The sifted setting was chosen on the seeds below this one; its number of epochs, and nothing else, on all of them."""

BOTH = "both"

INIT = InitSpec(pool=60, keep=6)
EVOLVE = EvolveSpec(iterations=4, top=3, population=6, offspring=3)

# The rows of the paper's Table 4. Its pools of 2,000, 1,000 and 500 of 11,782 architectures are 60, 30 and 15 of 121.
ABLATION: Mapping[str, tuple[str, InitSpec, EvolveSpec]] = {
    "BCNAS-SNN": ("all as in the paper", INIT, EVOLVE),
    "Exp1": ("step one by N-score", INIT.model_copy(update={"scores": ("n",)}), EVOLVE),
    "Exp2": ("step one by E-score", INIT.model_copy(update={"scores": ("e",)}), EVOLVE),
    "Exp3": ("step two at random", INIT, EVOLVE.model_copy(update={"strategy": "random"})),
    "Exp4": ("step two by N-score", INIT, EVOLVE.model_copy(update={"score": "n"})),
    "Exp5": ("step two by E-score", INIT, EVOLVE.model_copy(update={"score": "e"})),
    "Exp6": ("half the pool", INIT.model_copy(update={"pool": 30}), EVOLVE),
    "Exp7": ("a quarter of the pool", INIT.model_copy(update={"pool": 15}), EVOLVE),
    "Exp8": ("no pool", INIT.model_copy(update={"pool": 0}), EVOLVE),
}

STRATEGIES = ("evolutionary", "random", "tpe", "nsga2")


@cache
def found() -> values.Values:
    """The predictors of all seeds that are complete."""
    every = values.read()
    whole = values.seeds_of(every)
    return {key: value for key, value in every.items() if key[1] in whole}


@cache
def seeds() -> list[int]:
    return values.seeds_of(found())


@cache
def column(name: str, seed: int) -> list[float]:
    """What a predictor says of all architectures; `BOTH` is the sum of the ranks by E-score and on the supernet."""
    if name != BOTH:
        return found()[name, seed]
    return [a + b for a, b in zip(*(ranking(column(n, seed)) for n in ("e", SHOT)), strict=True)]


@cache
def truth() -> dict[Architecture, float]:
    return replay.truth()


@cache
def ranks() -> dict[Architecture, int]:
    """The place of each architecture by its true accuracy, from 1."""
    order = sorted(truth(), key=lambda a: (-truth()[a], a))
    return {a: place for place, a in enumerate(order, start=1)}


def shown(architecture: Architecture) -> str:
    return records.written(architecture).replace(" ", ", ").replace(">", "->")


def placements() -> str:
    """The best, the worst, each connection alone, and none."""
    accuracies = records.by_architecture(known(values.base(), records.TABLE))
    size = len(truth())
    rows = []
    for architecture, rank in sorted(ranks().items(), key=lambda item: item[1]):
        if rank <= 5 or rank > size - 3 or len(architecture) < 2:
            spread = statistics.stdev(accuracies[records.written(architecture)])
            rows.append((rank, shown(architecture), f"{truth()[architecture]:.3f}", f"{spread:.3f}"))
    return markdown(("rank", "connections", "mean accuracy", "deviation between seeds"), rows, right=(0, 2, 3))


def correlation(name: str, seed: int, chosen: Sequence[int] | None = None) -> float:
    predicted, true = column(name, seed), list(truth().values())
    if chosen is not None:
        predicted, true = [predicted[i] for i in chosen], [true[i] for i in chosen]
    return float(kendalltau(predicted, true).statistic)


def interval(name: str) -> tuple[float, float]:
    """The middle 95 % of the mean correlation, over architectures and seeds drawn with replacement."""
    rng = random.Random(0)
    means = []
    for _ in range(RESAMPLED):
        chosen = [rng.randrange(len(truth())) for _ in truth()]
        drawn = [rng.choice(seeds()) for _ in seeds()]
        means.append(statistics.mean(correlation(name, seed, chosen) for seed in drawn))
    means.sort()
    return means[RESAMPLED // 40], means[-RESAMPLED // 40 - 1]


def favorite(name: str, seed: int) -> int:
    """The true rank of the architecture that a predictor puts first."""
    order = list(truth())
    said = column(name, seed)
    return ranks()[order[max(range(len(order)), key=lambda i: said[i])]]


LABELS = {"n": "N-score", "e": "E-score"} | {
    str(s): f"supernet, {s.epochs} epochs" + (", recalibrated" if s.recalibrate else "") for s in values.SHOTS
}
LABELS[BOTH] = "E-score and supernet, 20 epochs, by added ranks"


def predictors() -> str:
    """How well each predictor ranks, over all seeds."""
    rows = []
    for name in LABELS:
        taus = [correlation(name, seed) for seed in seeds()]
        low, high = interval(name)
        places = sorted(favorite(name, seed) for seed in seeds())
        tenth = sum(place <= len(truth()) // 10 for place in places)
        rows.append(
            (
                LABELS[name],
                f"{statistics.mean(taus):+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                f"{min(taus):+.2f} to {max(taus):+.2f}",
                f"{statistics.median(places):.0f} ({places[0]} to {places[-1]})",
                f"{tenth} of {len(places)}",
            )
        )
    header = ("predictor", "Kendall", "95 %", "by seed", "true rank of its favorite", "in the best tenth")
    return markdown(header, rows, right=(1, 2, 3, 4, 5))


@cache
def returned(init: InitSpec, evolution: EvolveSpec, shot: str, seed: int) -> tuple[Architecture, ...]:
    """What the searches of a seed return, one a draw."""
    lookup = Lookup.of(found(), seed, shot)
    chosen = []
    for draw in range(DRAWS):
        evaluated = replay.search(init, evolution, lookup, keys.derive(seed, "replay", draw))
        chosen.append(replay.best(evaluated, fitness(evolution.score)))
    return tuple(chosen)


def ablated(row: str, shot: str, seed: int) -> tuple[float, float]:
    """The mean true accuracy and rank of what the searches of a seed return."""
    _, init, evolution = ABLATION[row]
    chosen = returned(init, evolution, shot, seed)
    return statistics.mean(truth()[a] for a in chosen), statistics.mean(ranks()[a] for a in chosen)


def chance(differences: Sequence[float]) -> str:
    """The p of Wilcoxon's signed-rank test."""
    value = wilcoxon(differences).pvalue
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def ablation(shot: str) -> str:
    """The rows of the paper's Table 4, each against the whole method on the same seeds."""
    whole = [ablated("BCNAS-SNN", shot, seed)[0] for seed in seeds()]
    none = truth()[()]
    rows: list[tuple[object, ...]] = [("Baseline", "no connections", f"{none:.3f}", ranks()[()], "", "")]
    for row, (what, _, _) in ABLATION.items():
        accuracies, places = zip(*(ablated(row, shot, seed) for seed in seeds()), strict=True)
        differences = [a - w for a, w in zip(accuracies, whole, strict=True)]
        if row == "BCNAS-SNN":
            gain = [a - none for a in accuracies]
            test = f"{chance(gain)} (against none)"
        else:
            test = chance(differences) if any(differences) else "equal"
        rows.append(
            (
                row,
                what,
                f"{statistics.mean(accuracies):.3f}",
                f"{statistics.mean(places):.0f}",
                "" if row == "BCNAS-SNN" else f"{statistics.mean(differences):+.3f}",
                test,
            )
        )
    header = ("row", "setting", "true accuracy", "true rank", "against BCNAS-SNN", "p")
    return markdown(header, rows, right=(2, 3, 4, 5))


def sifting() -> str:
    """From the paper's setting to the sifted one, a change a row: on the seeds that chose it, and on others."""
    parts = [[s for s in seeds() if s < CHOSEN_ON], [s for s in seeds() if s >= CHOSEN_ON]]
    rows = []
    for what, init, evolution, shot in sifted():
        cells: list[str] = []
        for part in parts:
            chosen = {seed: returned(init, evolution, shot, seed) for seed in part}
            places = [ranks()[a] for found in chosen.values() for a in found]
            tenth = sum(place <= len(truth()) // 10 for place in places) / len(places)
            accuracy = statistics.mean(truth()[a] for found in chosen.values() for a in found)
            cells += [f"{accuracy:.3f}", f"{tenth:.0%}", str(max(places))]
        rows.append((what, *cells))
    first, last = f"seeds 0 to {CHOSEN_ON - 1}", f"{CHOSEN_ON} to {seeds()[-1]}"
    columns = ("true accuracy", "in the best tenth", "worst rank")
    header = ("setting", *(f"{first}: {name}" for name in columns), *(f"{last}: {name}" for name in columns))
    return markdown(header, rows, right=range(1, len(header)))


def sifted() -> list[tuple[str, InitSpec, EvolveSpec, str]]:
    """The settings of `tiny_digits_rows.bcg`, turned one by one into those of `tiny_digits_rows_sifted.bcg`."""
    paper, other = (dsl.load(SPEC.with_stem(SPEC.stem + end)).search for end in ("", "_sifted"))
    shots = [values.Shot(one.supernet.epochs, one.supernet.recalibrate) for one in (paper, other)]
    recalibrated = values.Shot(shots[0].epochs, shots[1].recalibrate)
    e_alone = paper.init.model_copy(update={"scores": other.init.scores})
    return [
        ("as in the paper", paper.init, paper.evolve, str(shots[0])),
        ("E-score alone in step one", e_alone, paper.evolve, str(shots[0])),
        ("of the whole space, a tenth kept", other.init, paper.evolve, str(shots[0])),
        ("no evolution", other.init, other.evolve, str(shots[0])),
        ("batch norms recalibrated", other.init, other.evolve, str(recalibrated)),
        ("60 epochs", other.init, other.evolve, str(shots[1])),
    ]


@cache
def regrets(strategy: str, predictor: str) -> list[float]:
    """The mean regret after each evaluation of what has the best predicted value so far."""
    top = max(truth().values())
    evolution = EVOLVE.model_copy(update={"strategy": strategy, "iterations": 16})
    curves = []
    for seed in seeds():
        lookup = Lookup.of(found(), seed, SHOT if predictor == "truth" else predictor)
        if predictor == "truth":
            lookup = Lookup(lookup.n, lookup.e, truth())
        for draw in range(REGRET_DRAWS):
            init = INIT.model_copy(update={"pool": 0})
            evaluated = replay.search(init, evolution, lookup, keys.derive(seed, "regret", draw))
            curve, best = [], evaluated[0]
            for record in evaluated:
                if record.evaluation.value("accuracy") > best.evaluation.value("accuracy"):
                    best = record
                curve.append(top - truth()[best.architecture])
            curves.append(curve)
    length = min(map(len, curves))
    return [statistics.mean(curve[i] for curve in curves) for i in range(length)]


MARKS = (6, 12, 24, 48, 96)


def regret(predictor: str) -> str:
    """Mean regret after some numbers of evaluations, by strategy."""
    rows = [(s, *(f"{regrets(s, predictor)[m - 1]:.4f}" for m in MARKS)) for s in STRATEGIES]
    return markdown(("strategy", *(f"{m} evaluations" for m in MARKS)), rows, right=range(1, len(MARKS) + 1))


TABLES: Mapping[str, Callable[[], str]] = {
    "placements": placements,
    "predictors": predictors,
    "ablation": lambda: ablation(SHOT),
    "ablation, recalibrated": lambda: ablation(f"{SHOT}r{values.RECALIBRATE}"),
    "sifting": sifting,
    "regret, supernet": lambda: regret(SHOT),
    "regret, truth": lambda: regret("truth"),
    "contest": contest.table,
    **other_tables.TABLES,
    **gain_tables.TABLES,
}
