"""What a search goes by: one fitness, or several objectives with a documented order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bcgraph import origins, plugins, pruning
from bcgraph.errors import SearchError
from bcgraph.schema import NetworkSpec
from bcgraph.schema.search import COSTS, SMALL, Bound, SearchSpec
from bcgraph.search.records.evaluations import Evaluation, Measure, Record, fitness
from bcgraph.search.space.search_space import Architecture

# Measures that need trained weights.
_TRAINED = frozenset(("accuracy", "energy", "spikes"))

BEST = "best"
"""The choice by the objectives themselves, without a predictor."""

Values: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Objective:
    """A measure that a search maximizes, or minimizes."""

    measure: Measure
    maximize: bool = True

    def value(self, evaluation: Evaluation) -> float:
        """The value to rank by, larger is better: -inf where it is missing or not a number."""
        found = evaluation.measured(self.measure)
        if found is None or math.isnan(found):
            return -math.inf
        # What failed is -inf whichever way it counts.
        return found if self.maximize or found == -math.inf else -found


Objectives: TypeAlias = tuple[Objective, ...]


def objectives(settings: Mapping[str, Any]) -> Objectives:
    """The objectives of the settings of a search as plain data, the first one first."""
    found = [Objective(m) for m in settings.get("maximize", ())]
    found += [Objective(m, maximize=False) for m in settings.get("minimize", ())]
    return tuple(found) or (Objective(fitness(settings["evolve"]["score"])),)


def of_search(search: SearchSpec) -> Objectives:
    """The objectives of the settings of a search."""
    named = {"maximize": search.maximize, "minimize": search.minimize}
    return objectives({**named, "evolve": {"score": search.evolve.score}})


@dataclass(frozen=True, slots=True)
class Requirement:
    """A bound on what is measured: a candidate that breaks it never wins."""

    measure: Measure
    value: float

    def __str__(self) -> str:
        """As a file has it."""
        return str(Bound(self.measure, constant=self.value))

    def excess(self, evaluation: Evaluation) -> float:
        """By which share of it a candidate breaks the bound: 0 where it keeps it, infinite without a value."""
        found = evaluation.measured(self.measure)
        if found is None or math.isnan(found):
            return math.inf
        beyond = found - self.value if self.measure in SMALL else self.value - found
        # What failed is -inf whichever way it counts.
        return math.inf if found == -math.inf else max(0.0, beyond) / (abs(self.value) or 1.0)


Requirements: TypeAlias = tuple[Requirement, ...]


def requirements(settings: Mapping[str, Any]) -> Requirements:
    """The bounds on what is measured in the settings of a search as plain data."""
    given = [(each["metric"], each.get("constant", 0.0)) for each in settings.get("subject_to", ())]
    return tuple(Requirement(measure, value) for measure, value in given if measure not in COSTS)


def required(search: SearchSpec) -> Requirements:
    """The bounds on what is measured in the settings of a search."""
    return tuple(Requirement(b.metric, b.constant) for b in search.subject_to if not b.costs_nothing)


def excess(evaluation: Evaluation, within: Iterable[Requirement]) -> float:
    """By how much a candidate breaks the bounds together: 0 where it keeps them all."""
    return math.fsum(each.excess(evaluation) for each in within)


def measured(search: SearchSpec) -> tuple[Measure, ...]:
    """What step two measures: the objectives, and what is bounded."""
    named = [*(each.measure for each in of_search(search)), *(each.measure for each in required(search))]
    return tuple(dict.fromkeys(named))


def trains_candidates(strategy: str) -> bool:
    """Whether a search by this strategy trains each candidate on its own, in place of a supernet."""
    found = plugins.known("strategy", strategy)
    return found is not None and found.value.loop is not None


def trains_supernet(search: SearchSpec) -> bool:
    """Whether something that the search goes by needs the weights of a supernet."""
    return not trains_candidates(search.evolve.strategy) and not _TRAINED.isdisjoint(measured(search))


def weights(settings: Mapping[str, Any]) -> str:
    """Where the weights of the network chosen come from, for the settings of a search as plain data.

    `training` where it has been trained on its own, else `supernet` or `initialization` (see `bcgraph.origins`).
    """
    strategy = settings["evolve"]["strategy"]
    if settings.get("finish") is not None or pruning.one_run(strategy) or trains_candidates(strategy):
        return origins.TRAINING
    named = {each.measure for each in objectives(settings)} | {each.measure for each in requirements(settings)}
    return origins.INITIALIZATION if _TRAINED.isdisjoint(named) else origins.SUPERNET


def values(evaluation: Evaluation, by: Objectives) -> Values:
    """The values of all objectives, larger is better."""
    return tuple(each.value(evaluation) for each in by)


def ranking(records: Sequence[Record], by: Objectives, within: Requirements = ()) -> list[Record]:
    """The records from best to worst; of equal ones the earlier comes first.

    What failed in any objective comes last, and before it what breaks a bound of `within`, by how much. With one
    objective the order is by its value. With several it is by nondominated rank (0 for what no other record dominates,
    1 for what only those do, and so on), and in a rank by the first objective. A record dominates another when it is no
    worse in every objective and better in one.
    """
    found = [values(r.evaluation, by) for r in records]
    ranks = _ranks(found) if len(by) > 1 else [0] * len(found)
    failed = [not all(map(math.isfinite, each)) for each in found]
    beyond = [excess(r.evaluation, within) for r in records]
    order = sorted(range(len(records)), key=lambda k: (failed[k], beyond[k], ranks[k], -found[k][0]))
    return [records[k] for k in order]


def best_first(spec: NetworkSpec, records: Sequence[Record]) -> list[Record]:
    """The records of step two from best to worst, as the search of `spec` chooses among them.

    `records` are all of the search. Raises what `ranked` does.
    """
    search = spec.search
    found = ranked(
        search.evolve.choose,
        [record for record in records if record.stage == "evolve"],
        of_search(search),
        required(search),
        known=[record for record in records if record.stage == "init"],
        scores=search.init.scores,
        uses=spec.uses,
    )
    return _longest_first(found, search.evolve.strategy)


def _longest_first(records: Sequence[Record], strategy: str) -> list[Record]:
    """Records in order, where candidates train for more epochs in each iteration those of later iterations first."""
    return sorted(records, key=lambda r: -r.iteration) if trains_candidates(strategy) else list(records)


def ranked(
    name: str,
    records: Sequence[Record],
    by: Objectives,
    within: Requirements = (),
    *,
    known: Sequence[Record] = (),
    scores: Sequence[Measure] = (),
    uses: tuple[str, ...] = (),
) -> list[Record]:
    """The records from best to worst by the predictor `name`, of equal ones the earlier first; `best` asks none.

    It sees the objectives `by` of `records`, and `scores` of these and of the other records `known`. What failed in any
    objective comes last, and before it what breaks a bound of `within`, as in `ranking`. Raises SearchError
    (E089) for a predictor that is not registered, PluginError (E095) when it fails.
    """
    if name == BEST:
        return ranking(records, by, within)
    values = predicted(name, [*known, *records], by, scores, uses)
    failed = [not all(math.isfinite(each.value(r.evaluation)) for each in by) for r in records]
    beyond = [excess(r.evaluation, within) for r in records]
    order = sorted(range(len(records)), key=lambda k: (failed[k], beyond[k], -values[records[k].architecture]))
    return [records[k] for k in order]


def predicted(
    name: str, records: Sequence[Record], by: Objectives, scores: Sequence[Measure] = (), uses: tuple[str, ...] = ()
) -> Mapping[Architecture, float]:
    """What a predictor says of each architecture in `records`, where a later value of a measure counts."""
    entry = plugins.find("predictor", name, uses)
    if entry is None:
        raise SearchError("E089", f"the predictor `{name}` is not registered in this process")
    table: dict[Measure, dict[Architecture, float]] = {}
    for record in records:
        for measure in scores:
            if (value := record.evaluation.measured(measure)) is not None:
                table.setdefault(measure, {})[record.architecture] = value
        for objective in by:
            if record.evaluation.measured(objective.measure) is not None:
                table.setdefault(objective.measure, {})[record.architecture] = objective.value(record.evaluation)
    order = list(dict.fromkeys(record.architecture for record in records))
    columns = {measure: [values.get(each) for each in order] for measure, values in table.items()}
    with plugins.calling(entry):
        found: list[Any] = [float(value) for value in entry.value.predict(order, columns)]
        if len(found) != len(order):
            raise ValueError(f"{len(found)} values for {len(order)} architectures")
    return dict(zip(order, (-math.inf if math.isnan(v) else v for v in found), strict=True))


def front(records: Sequence[Record], by: Objectives, within: Requirements = ()) -> list[Record]:
    """The records within the bounds that no other one of them dominates, by the first objective.

    Their objectives are all finite.
    """
    finite = [r for r in records if all(math.isfinite(v) for v in values(r.evaluation, by))]
    alive = [r for r in finite if not excess(r.evaluation, within)]
    found = [values(r.evaluation, by) for r in alive]
    kept = [r for r, mine in zip(alive, found, strict=True) if not any(_dominates(v, mine) for v in found)]
    return sorted(kept, key=lambda r: -by[0].value(r.evaluation))


def chosen(records: Sequence[Record], settings: Mapping[str, Any]) -> Record | None:
    """Of the records of a search, whose settings are plain data, the one that it chooses, or would if it ended now.

    None without records of step two. It is the best, but where a strategy prunes one training run the last: earlier
    stages hold too many connections. A predictor that is not known in this process is not asked.
    """
    evolved = [record for record in records if record.stage == "evolve"]
    strategy = settings["evolve"]["strategy"]
    if pruning.one_run(strategy):
        return evolved[-1] if evolved else None
    choose = settings["evolve"].get("choose", BEST)
    found = ranked(
        choose if plugins.known("predictor", choose) is not None else BEST,
        evolved,
        objectives(settings),
        requirements(settings),
        known=[record for record in records if record.stage == "init"],
        scores=settings["init"]["scores"],
    )
    return next(iter(_longest_first(found, strategy)), None)


def _dominates(one: Values, other: Values) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _ranks(found: Sequence[Values]) -> list[int]:
    """The nondominated rank of each: the length of the longest chain of others that dominate one another and it."""
    # In this order nothing is dominated by what comes after it.
    order = sorted(range(len(found)), key=lambda k: found[k], reverse=True)
    ranks = [0] * len(found)
    for place, k in enumerate(order):
        ranks[k] = max((ranks[o] + 1 for o in order[:place] if _dominates(found[o], found[k])), default=0)
    return ranks
