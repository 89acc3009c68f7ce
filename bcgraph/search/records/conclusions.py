"""What the numbers of a search bear out, in sentences that are computed from them and say no more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bcgraph import origins
from bcgraph.comparison.statistics import SURE, difference, partial_spearman
from bcgraph.comparison.table import verdict
from bcgraph.search.records.evaluations import keys_in, name_of, value_in
from bcgraph.search.records.objectives import objectives
from bcgraph.search.records.trained import NONE

_LEAST = 8

FRONT = 1 / 3
"""The share of the ports that counts as the front of a network."""


def beside_none(found: Mapping[str, Any]) -> list[str]:
    """How the networks found do beside the one without connections, for a history of `bcgraph.search.history`."""
    if "finish" in found:
        return _trained(found["finish"])
    none = next((e for e in found.get("beside", ()) if e["name"] == NONE), None)
    if none is None or found["chosen"] is None:
        return []
    first = objectives(found["settings"])[0]
    measure, maximize = first.measure, first.maximize
    own, other = value_in(found["chosen"], measure), value_in(none, measure)
    if own is None or other is None:
        return []
    better = own > other if maximize else own < other
    which = "as good as" if own == other else "better than" if better else "worse than"
    how = f" with {origins.INHERITED}" if found["weights"] == origins.SUPERNET else ""
    trained = found["weights"] == origins.TRAINING
    whence = "in one training run each" if trained else "in this one evaluation, which is no training result"
    return [
        f"{name_of(measure)}{how}: the network found has {own:.5g} and the one without connections {other:.5g}; "
        f"{whence}, the first is {which} the second"
    ]


def _trained(finish: Mapping[str, Any]) -> list[str]:
    by_seed = {n["name"]: {run["seed"]: run["accuracy"] for run in n["runs"]} for n in finish["networks"]}
    if not by_seed[NONE]:
        return []
    return [
        f"{name}: {verdict(difference(values, by_seed[NONE]), 'none')}"
        for name, values in by_seed.items()
        if name != NONE and values
    ]


def scores(found: Mapping[str, Any]) -> list[str]:
    """How the scores of step one go with what step two has measured, beyond a rule that needs no network.

    The rule is the number of connections minus their summed distance. Fewer than `_LEAST` architectures say nothing.
    """
    first = objectives(found["settings"])[0]
    scored = {_key(e): e for e in found["evaluations"] if e["stage"] == "init"}
    pairs = [(scored[_key(e)], e) for e in found["evaluations"] if e["stage"] == "evolve" and _key(e) in scored]
    said = []
    for measure in found["settings"]["init"].get("scores", ()):
        known = [(s, e) for s, e in pairs if None not in (value_in(s, measure), value_in(e, first.measure))]
        if measure == first.measure or len(known) < _LEAST:
            continue
        a = [float(value_in(s, measure) or 0.0) for s, _ in known]
        b = [(1 if first.maximize else -1) * float(value_in(e, first.measure) or 0.0) for _, e in known]
        rule = [float(sum(1 - (j - i) for j, i in e["backward"])) for _, e in known]
        if len(set(a)) == 1 or len(set(b)) == 1 or len(set(rule)) == 1:
            continue
        beyond = partial_spearman(a, b, rule)
        if beyond is not None:
            said.append(
                f"{name_of(measure)} beside {name_of(first.measure)} of {len(known)} architectures that have both: "
                f"partial Spearman {beyond:+.2f}, given the number of connections minus their distance"
            )
    return said


def _key(evaluation: Mapping[str, Any]) -> str:
    return repr(keys_in(evaluation))


def positions(evolved: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]], ports: int) -> str | None:
    """Whether the connections of the best end in the front third more often than those of the other evaluations.

    By Fisher's exact test, two-sided. None where the best or the others have no connection.
    """
    last = max(1, math.ceil(FRONT * ports)) - 1
    chosen = {id(e) for e in best}
    groups = ([e for e in evolved if id(e) in chosen], [e for e in evolved if id(e) not in chosen])
    counts = [_targets(group, last) for group in groups]
    if not counts[0][1] or not counts[1][1]:
        return None
    from scipy import stats

    table = [[front, every - front] for front, every in counts]
    p = float(stats.fisher_exact(table).pvalue)
    shares = [front / every for front, every in counts]
    (front, every), (others, all_others) = counts
    if p >= SURE:
        said = "no preference beyond chance"
    else:
        said = "the front is favored" if shares[0] > shares[1] else "the front is avoided"
    where = "port 0" if last == 0 else f"ports 0 to {last}"
    return (
        f"{front} of {every} connections of the best ({shares[0]:.0%}) end in {where}, the front third of the network, "
        f"and {others} of {all_others} ({shares[1]:.0%}) of the others: {said} (Fisher's exact test, p = {p:.2g})"
    )


def _targets(evaluations: Sequence[Mapping[str, Any]], last: int) -> tuple[int, int]:
    """How many connections end in the front, and how many there are."""
    targets = [pair[1] for e in evaluations for pair in e["backward"]]
    return sum(target <= last for target in targets), len(targets)
