"""Step two as one training run (`strategy = gains`): all connections start quietly, and the weakest are pruned.

The connections of a stage follow from the recorded scales of the stage before it. So a run that is resumed with its
records ends like an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from bcgraph import pruning
from bcgraph.errors import RunError
from bcgraph.plugins.values import Strategy
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Record
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.strategies.one_run import TrainStage


def prune(spec: NetworkSpec, train: TrainStage, *, history: Sequence[Record] = ()) -> Iterator[Record]:
    """Train the stages of `spec` one after the other; yields the record of each as soon as it is done.

    Stages recorded in `history` are not trained again. Raises RunError (E085) when `history` does not belong to `spec`.
    """
    base = pruning.quiet(spec)
    stages = pruning.stages(spec)
    if len(history) > len(stages):
        raise _foreign(len(stages))
    # Before the first stage no connection is louder than another.
    scales = dict.fromkeys(pruning.pairs(spec), 0.0)
    for number, stage in enumerate(stages):
        pairs = pruning.survivors(spec, scales, stage)
        candidate = Candidate.at(base, pairs, pruning.STRATEGY)
        if number < len(history):
            record = history[number]
            if (record.iteration, record.index, record.architecture) != (number, 0, pairs):
                raise _foreign(number)
        else:
            started = time.monotonic()
            found = train(number, candidate)
            record = Record.of(candidate, "evolve", number, 0, found, time.monotonic() - started)
            yield record
        scales = dict(zip(pairs, record.evaluation.scales, strict=True))


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
    base=pruning.quiet,
    contradictions=pruning.contradictions,
)
