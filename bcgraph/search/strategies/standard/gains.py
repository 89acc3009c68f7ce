"""Step two as one training run (`strategy = gains`): all connections start quietly, and the weakest are pruned.

The connections of a stage follow from the recorded scales of the stage before it. So a run that is resumed with its
records ends like an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from bcgraph import pruning
from bcgraph.errors import RunError
from bcgraph.plugins.values import Strategy
from bcgraph.pruning import Key
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Record
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.limits import Limits, costs
from bcgraph.search.strategies.one_run import TrainStage


def prune(spec: NetworkSpec, train: TrainStage, *, history: Sequence[Record] = ()) -> Iterator[Record]:
    """Train the stages of `spec` one after the other; yields the record of each as soon as it is done.

    Stages recorded in `history` are not trained again. Raises RunError (E085) when `history` does not belong to `spec`,
    SearchError (E067) for bounds that leave nothing.
    """
    stages = pruning.stages(spec)
    if len(history) > len(stages):
        raise _foreign(len(stages))
    bounds = _Bounds(spec)
    # Before the first stage no connection is louder than another.
    scales = dict.fromkeys(pruning.every(spec), 0.0)
    for number, stage in enumerate(stages):
        chosen = pruning.survivors(spec, scales, stage, bounds.of(stage.share))
        candidate = Candidate(pruning.together(spec, chosen), chosen, pruning.STRATEGY)
        if number < len(history):
            record = history[number]
            if (record.iteration, record.index, record.architecture) != (number, 0, chosen):
                raise _foreign(number)
        else:
            started = time.monotonic()
            found = train(number, candidate)
            record = Record.of(candidate, "evolve", number, 0, found, time.monotonic() - started)
            yield record
        scales = dict(zip(chosen, record.evaluation.scales, strict=True))


class _Bounds:
    """The bounds of `subject_to`, which the network meets at the end; what feedback costs falls by constant factors."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.limits = Limits.of(spec).limits
        if self.limits:
            self.whole = costs(pruning.together(spec, pruning.every(spec)))
            self.least = costs(pruning.together(spec, sorted(pruning.fixed(spec))))

    def of(self, share: float) -> Callable[[Sequence[Key]], bool]:
        """Whether a network keeps within the bounds after this share of the pruning."""
        if not self.limits or not share:
            return lambda found: True
        allowed: dict[str, float] = {}
        for limit in self.limits:
            name = limit.bound.metric
            least, whole = self.least[name], self.whole[name]
            extra = limit.most - least
            if share == 1 or limit.most >= whole:
                allowed[name] = limit.most
            else:
                allowed[name] = least + pruning.between(whole - least, extra, share)

        def keeps(found: Sequence[Key]) -> bool:
            cost = costs(pruning.together(self.spec, found))
            return all(cost[name] <= most for name, most in allowed.items())

        return keeps


def _foreign(stage: int) -> RunError:
    return RunError(
        "E085",
        f"stage {stage} in the log is not one that this search makes",
        hint="the log was changed, or was written by another version; start in a new directory",
    )


STRATEGY = Strategy(
    "one training run that starts with all connections and prunes the weakest",
    run=prune,
    settings=pruning.Gains,
    network=pruning.network,
    contradictions=pruning.contradictions,
)
