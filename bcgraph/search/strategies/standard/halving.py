"""Successive halving over short training runs (Jamieson and Talwalkar 2016, arXiv 1502.07943).

What step one keeps trains for a few epochs; the best 1 in `eta` trains for `eta` times as many, from the start and with
a schedule of its own, and so on up to the epochs of `train`. The brackets of Hyperband (Li et al. 2018) are searches
with other `keep` and `iterations`. Each candidate has one record, of the rung where it drops out: the iteration is the
number of the rung. A training run keeps its checkpoint in the directory of the search, so that a search that was
stopped ends as an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bcgraph.plugins.values import Contradiction, Strategy
from bcgraph.schema.values import Frozen

if TYPE_CHECKING:
    from bcgraph.schema import NetworkSpec
    from bcgraph.search.records.evaluations import Evaluation, Record
    from bcgraph.search.space.limits import Limits
    from bcgraph.search.space.search_space import Architecture


class Halving(Frozen):
    """One candidate in `eta` trains on, for `eta` times as many epochs."""

    eta: Annotated[int, Field(ge=2, le=100)] = 3


def rungs(spec: NetworkSpec, candidates: int) -> list[tuple[int, int]]:
    """How many candidates each rung trains, and for how many epochs. The last trains as the file says."""
    evolve = spec.search.evolve
    eta = evolve.own.eta if isinstance(evolve.own, Halving) else Halving().eta
    sizes = [candidates]
    while sizes[-1] > 1 and len(sizes) <= evolve.iterations:
        sizes.append(max(1, sizes[-1] // eta))
    whole = spec.train.epochs
    return [(size, max(1, round(whole / eta ** (len(sizes) - 1 - rung)))) for rung, size in enumerate(sizes)]


def halve(
    spec: NetworkSpec,
    evaluate: Callable[[Sequence[NetworkSpec]], Iterable[Evaluation]],
    *,
    seed: int,
    initial: Sequence[Architecture],
    history: Sequence[Record] = (),
    limits: Limits | None = None,
) -> Iterator[Record]:
    """Train `initial` rung by rung; yields the record of each candidate once it has dropped out, or won.

    Those of `history` are compared with what the training runs say, which are not repeated. Raises RunError (E085) when
    they are of another search.
    """
    from bcgraph.errors import RunError
    from bcgraph.search.records.evaluations import Record
    from bcgraph.search.space.candidate import Candidate

    left = [Candidate.at(spec, architecture, "selected") for architecture in initial]
    past = list(history)
    every = rungs(spec, len(left))
    for rung, (_, epochs) in enumerate(every):
        started = time.monotonic()
        found = list(zip(left, evaluate([_short(each.spec, epochs) for each in left]), strict=True))
        seconds = (time.monotonic() - started) / len(left)
        goes_on = every[rung + 1][0] if rung + 1 < len(every) else 0
        order = sorted(range(len(found)), key=lambda k: -found[k][1].value("accuracy"))
        stays = sorted(order[:goes_on])
        for index, place in enumerate(sorted(order[goes_on:])):
            record = Record.of(found[place][0], "evolve", rung, index, found[place][1], seconds)
            if not past:
                yield record
            elif past.pop(0) != record:
                raise RunError(
                    "E085",
                    f"evaluation {index} of iteration {rung} in the log is not the one this search makes",
                    hint="the log was changed, or was written by another version; start in a new directory",
                )
        left = [found[place][0] for place in stays]
    if past:
        raise RunError("E085", f"the log holds {len(past)} evaluations that this search does not make")


def _short(spec: NetworkSpec, epochs: int) -> NetworkSpec:
    """`spec`, trained for so many epochs."""
    fields: dict[str, Any] = dict(spec.__dict__)
    fields["train"] = type(spec.train)(**{**spec.train.__dict__, "epochs": epochs})
    return type(spec)(**fields)


def contradictions(spec: NetworkSpec) -> Iterator[Contradiction]:
    """Halving goes by the accuracy of training runs alone."""
    search = spec.search
    if search.evolve.score != "oneshot":
        yield Contradiction(
            "score", "halving goes by the accuracy of training runs, not by a score", "leave `score` out"
        )
    if search.maximize or search.minimize:
        name = "maximize" if search.maximize else "minimize"
        yield Contradiction(name, "halving goes by the accuracy of training runs alone", f"leave `{name}` out")


STRATEGY = Strategy(
    "successive halving: short training runs, the best train longer",
    loop=halve,
    settings=Halving,
    contradictions=contradictions,
)
