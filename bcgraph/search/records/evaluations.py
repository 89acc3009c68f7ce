"""The evaluations of a search, and records that give each its place in the history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from bcgraph import foreign, plugins
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.search_space import Architecture
from bcgraph.spaces import Member

Measure: TypeAlias = str
"""One of `MEASURES`, another metric, or the name of a score."""

Stage: TypeAlias = Literal["init", "evolve"]

MEASURES: tuple[Measure, ...] = ("n", "e", "accuracy")
"""Measures that have a field of their own in an evaluation and its record; the others stand in `scores`, by name."""

NAMES: dict[Measure, str] = {
    "accuracy": "validation accuracy",
    "parameters": "parameters",
    "operations": "multiply-accumulates a step",
    "state": "state values",
    "energy": "energy (J a sample)",
    "spikes": "spikes a sample",
    "latency": "latency (ms a sample)",
}

LABELS: dict[Measure, str] = NAMES | {"accuracy": "accuracy"}
"""Names where space is short: in the tables and lines that commands print."""

# Setting `score` of the evolution -> what it compares.
FITNESS: dict[str, Measure] = {"oneshot": "accuracy"}


def fitness(score: str) -> Measure:
    """What an evolution with this setting `score` compares: a score is a measure itself."""
    return FITNESS.get(score, score)


def name_of(measure: Measure) -> str:
    """What texts and pictures call a measure."""
    return NAMES.get(measure) or _declared_label(measure)


def label(measure: Measure) -> str:
    """What tables and lines call a measure."""
    return LABELS.get(measure) or _declared_label(measure)


def _declared_label(measure: Measure) -> str:
    # A report is read without loading what was registered for the search.
    entry = plugins.known("score", measure)
    found: str = measure if entry is None else entry.value.label
    return found


def value_in(data: Mapping[str, Any], measure: Measure) -> float | None:
    """The value of a measure in an evaluation as `Record.as_data` gives it."""
    found: float | None = data[measure] if measure in MEASURES else data.get("scores", {}).get(measure)
    return found


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of one architecture; None for one that was not measured.

    A dead or failed candidate has -inf, and `reasons` says why for each such measure. Where a measure is a mean,
    `samples` holds its terms. `scales` are the mean sizes of the learned scales of its connections, in their order,
    where a search goes by them. `scores` are the values of all other measures, by name.
    """

    n: float | None = None
    e: float | None = None
    accuracy: float | None = None
    reasons: tuple[tuple[Measure, str], ...] = ()
    samples: tuple[tuple[Measure, tuple[float, ...]], ...] = ()
    scales: tuple[float, ...] = ()
    scores: tuple[tuple[Measure, float], ...] = ()

    def measured(self, measure: Measure) -> float | None:
        """The value of a measure, None where it was not measured."""
        found: float | None = getattr(self, measure) if measure in MEASURES else dict(self.scores).get(measure)
        return found

    def value(self, measure: Measure) -> float:
        """The value to rank by: -inf for a measure that is missing or not a number."""
        found = self.measured(measure)
        return -math.inf if found is None or math.isnan(found) else found

    @staticmethod
    def of(values: Mapping[Measure, float | None], **rest: Any) -> Evaluation:
        """The evaluation with these values by measure."""
        others = tuple((m, v) for m, v in values.items() if m not in MEASURES and v is not None)
        n, e, accuracy = (values.get(m) for m in MEASURES)
        return Evaluation(n, e, accuracy, scores=others, **rest)

    @staticmethod
    def failed(measures: tuple[Measure, ...], reason: str) -> Evaluation:
        """The evaluation of a candidate that could not be measured."""
        return Evaluation.of(dict.fromkeys(measures, -math.inf), reasons=tuple((m, reason) for m in measures))


@dataclass(frozen=True, slots=True)
class Record:
    """One evaluation in its place: the `index`-th of its stage and iteration.

    `origin` says where the architecture came from (see `Candidate`). `seconds` is how long the evaluation took; no
    decision depends on it.
    """

    stage: Stage
    iteration: int
    index: int
    architecture: Architecture
    evaluation: Evaluation
    origin: str
    seconds: float = field(default=0.0, compare=False)

    @staticmethod
    def of(
        candidate: Candidate, stage: Stage, iteration: int, index: int, evaluation: Evaluation, seconds: float
    ) -> Record:
        """The record of an evaluated candidate."""
        return Record(stage, iteration, index, candidate.architecture, evaluation, candidate.origin, seconds)

    def as_data(self) -> dict[str, Any]:
        """Plain data that JSON can hold. -inf becomes None; a reason distinguishes it from "not measured"."""
        found = {m: getattr(self.evaluation, m) for m in MEASURES}
        samples = {m: [_finite(v) for v in values] for m, values in self.evaluation.samples}
        return {
            "stage": self.stage,
            "iteration": self.iteration,
            "index": self.index,
            **_connections(self.architecture),
            **{m: _finite(v) for m, v in found.items()},
            "reasons": dict(self.evaluation.reasons),
            "origin": self.origin,
            **({"samples": samples} if samples else {}),
            **({"scales": list(self.evaluation.scales)} if self.evaluation.scales else {}),
            **({"scores": {m: _finite(v) for m, v in self.evaluation.scores}} if self.evaluation.scores else {}),
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Record:
        """The inverse of `as_data`. Raises ValueError when `data` is not a record."""
        found = foreign.checked(data, _SHAPE)
        if found.members is not None and {m[:2] for m in found.members if not m.forward} != set(found.backward):
            raise ValueError("its pairs are not those of its connections")
        architecture = found.backward if found.members is None else found.members
        if found.scales and len(found.scales) != len(architecture):
            raise ValueError(f"it has {len(found.scales)} scales for {len(architecture)} connections")
        written: dict[Measure, float | None] = {"n": found.n, "e": found.e, "accuracy": found.accuracy, **found.scores}
        if found.scores.keys() & set(MEASURES):
            raise ValueError("it has a measure of bcgraph's own among the registered scores")
        unknown = {*found.reasons, *found.samples} - written.keys()
        if unknown:
            raise ValueError(f"it has no measure {min(unknown)!r}")
        values = {m: -math.inf if m in found.reasons else value for m, value in written.items()}
        samples = tuple(
            (m, tuple(-math.inf if v is None else v for v in values)) for m, values in found.samples.items()
        )
        return Record(
            stage=found.stage,
            iteration=found.iteration,
            index=found.index,
            architecture=architecture,
            evaluation=Evaluation.of(
                values, reasons=tuple(found.reasons.items()), samples=samples, scales=found.scales
            ),
            origin=found.origin,
            seconds=found.seconds,
        )


def keys_in(data: Mapping[str, Any]) -> list[Sequence[Any]]:
    """The connections of an evaluation as `Record.as_data` gives it: pairs, or members where it has more of them."""
    found = data.get("members")
    return data["backward"] if found is None else [Member(**each) for each in found]


def _connections(architecture: Architecture) -> dict[str, Any]:
    """The connections of an architecture as plain data: those of the paper's space are their pairs.

    Those of another space have all that they are made of as well, in `members`; `backward` then has the pairs of
    those that run backward.
    """
    if not all(isinstance(key, Member) for key in architecture) or not architecture:
        return {"backward": [list(key) for key in architecture]}
    members = [key for key in architecture if isinstance(key, Member)]
    return {
        "backward": [[m.source, m.target] for m in members if not m.forward],
        "members": [m._asdict() for m in members],
    }


_Count: TypeAlias = Annotated[int, Field(strict=True, ge=0)]
_Float: TypeAlias = Annotated[float, Field(strict=True)]


@dataclass(frozen=True)
class _Data:
    """A record as JSON holds it."""

    stage: Stage
    iteration: _Count
    index: _Count
    backward: tuple[tuple[_Count, _Count], ...]
    n: _Float | None
    e: _Float | None
    accuracy: _Float | None
    reasons: dict[Measure, str]
    origin: str
    samples: dict[Measure, tuple[_Float | None, ...]] = field(default_factory=dict)
    scales: tuple[Annotated[_Float, Field(ge=0, allow_inf_nan=False)], ...] = ()
    scores: dict[Measure, _Float | None] = field(default_factory=dict)
    seconds: _Float = 0.0
    members: tuple[Member, ...] | None = None


_SHAPE = TypeAdapter(_Data)

FIELDS = tuple(each.name for each in fields(_Data))
"""The names of all fields of a record as data."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a user should know about a run, such as a setting that could not be met in full."""

    text: str


def ranking(records: list[Record], measure: Measure) -> list[Record]:
    """The records from best to worst by one measure; of equal values the earlier comes first."""
    return sorted(records, key=lambda r: -r.evaluation.value(measure))


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
