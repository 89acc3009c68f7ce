"""The audit of the scores: how much of a ranking is reproducible, and how much of it is noise.

Audit a score before trusting it to choose architectures: it may change with the initialization, rank as well with
shuffled labels, or only count connections. An audit measures each of these for one network and one data set.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from bcgraph import keys
from bcgraph.data.split import Split
from bcgraph.errors import SearchError
from bcgraph.plugins.values import OfGradients
from bcgraph.schema import NetworkSpec
from bcgraph.search.events import Event, Progress
from bcgraph.search.records import history, sealed
from bcgraph.search.records.evaluations import Evaluation, Measure
from bcgraph.search.scores.networks import declared, result
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.rank_correlation import spearman
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.space.search_space import of_search, port_shapes, wired
from bcgraph.shapes import spatial

Kind: TypeAlias = Literal["reproducibility", "noise floor", "descriptor"]

LEAST = 3
"""The smallest number of candidates that can be ranked meaningfully."""

# The number of random Jacobians for the noise floor of the E-score.
_GAUSSIANS = 32


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of an audit.

    Most values are Spearman correlations between a score and another quantity. A high one is good for
    `reproducibility`; for the shuffled labels of the `noise floor` and for a `descriptor` it means that the score says
    little else. For Gaussian Jacobians the value is the spread (standard deviation) of the scores of random numbers,
    divided by that of the candidates: near or above 1, the candidates differ no more than noise does.
    """

    measure: Measure
    kind: Kind
    what: str
    value: float

    def as_data(self) -> dict[str, Any]:
        """Plain data; None for a value that is not finite."""
        value = self.value if math.isfinite(self.value) else None
        return {"score": self.measure, "kind": self.kind, "what": self.what, "value": value}


@dataclass(frozen=True)
class Audit:
    """The findings about the scores of `candidates` random architectures."""

    candidates: int
    findings: tuple[Finding, ...]

    def as_data(self) -> dict[str, Any]:
        """Plain data."""
        return {"candidates": self.candidates, "findings": [f.as_data() for f in self.findings]}

    def write(self, directory: Path) -> None:
        """Write the audit into the directory of a search. Raises RunError (E084)."""
        sealed.write(directory / history.AUDIT, self.as_data())


def kept(directory: Path, candidates: int) -> bool:
    """Whether the directory of a search holds an audit of this many candidates."""
    found = history.audit(directory)
    return found is not None and found.get("candidates") == candidates


def audit(
    spec: NetworkSpec,
    split: Split,
    *,
    seed: int = 0,
    candidates: int = 40,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Audit:
    """Audit the scores that `spec.search.init` names, on random architectures and batches of `split`.

    Every candidate is scored in float32 as a search does it, then again with one thing changed: the initialization, the
    batch, float64, the channels-last layout, and, for a score of gradients, shuffled labels. `progress` is called after
    each scoring; `device` is where networks run. Raises SearchError (E089) for fewer than three candidates, and the
    errors of `ScoringBatch.draw`.
    """
    if candidates < LEAST:
        raise SearchError("E089", f"an audit of {candidates} candidates says nothing", hint=f"take at least {LEAST}")
    settings = spec.search
    choices = of_search(spec)
    drawn = choices.sample(keys.rng(seed, "audit"), min(candidates, choices.size))
    specs = [wired(spec, architecture) for architecture in drawn]
    measures = settings.init.scores

    def batch(purpose: str) -> ScoringBatch:
        return ScoringBatch.draw(split, settings.init.batch, keys.derive(seed, "init", purpose))

    base = Scorer(batch("batch"), seed, measures, device=device)
    variants = dict(_variants(base, batch("another batch"), seed, spec))
    total = len(specs) * (1 + len(variants))
    done = 0

    def scored(scorer: Scorer) -> list[Evaluation]:
        nonlocal done
        found = []
        for evaluation in scorer(specs):
            found.append(evaluation)
            done += 1
            if progress is not None:
                progress(Event("audit", done, total))
        return found

    own = scored(base)
    findings: list[Finding] = []
    for (kind, what), scorer in variants.items():
        findings += _compare(kind, what, own, scored(scorer), scorer.measures)
    for name in _of_gradients(spec):
        findings.append(Finding(name, "noise floor", "Gaussian Jacobians, spread", _gaussian(name, base, own, seed)))
    for what, values in _descriptors(specs).items():
        for measure in measures:
            ranked = spearman([e.value(measure) for e in own], values)
            findings.append(Finding(measure, "descriptor", what, ranked))
    return Audit(len(specs), tuple(sorted(findings, key=lambda f: measures.index(f.measure))))


def _variants(
    base: Scorer, other: ScoringBatch, seed: int, spec: NetworkSpec
) -> Iterator[tuple[tuple[Kind, str], Scorer]]:
    """The scorers of the audit, each with one thing changed."""
    yield ("reproducibility", "another initialization"), replace(base, seed=keys.derive(seed, "audit", "init"))
    yield ("reproducibility", "another batch"), replace(base, batch=other)
    yield ("reproducibility", "float64"), replace(base, precision=PRECISIONS["float64"])
    yield ("reproducibility", "another layout"), replace(base, layout=_other_layout(base, spec))
    if named := _of_gradients(spec):
        order = list(range(len(base.batch.y)))
        keys.rng(seed, "audit", "labels").shuffle(order)
        shuffled = replace(base.batch, y=base.batch.y[order])
        yield ("noise floor", "shuffled labels"), replace(base, batch=shuffled, measures=named)


def _of_gradients(spec: NetworkSpec) -> tuple[Measure, ...]:
    """The scores of gradients among those of step one."""
    every = declared(spec.search.init.scores, spec.uses)
    return tuple(name for name, score in every.items() if isinstance(score.measure, OfGradients))


def _other_layout(base: Scorer, spec: NetworkSpec) -> torch.memory_format:
    """Channels-last where the candidates are contiguous, and the reverse."""
    last = base.weights().layout_for(spec) == torch.channels_last
    return torch.contiguous_format if last else torch.channels_last


def _compare(
    kind: Kind, what: str, own: Sequence[Evaluation], other: Sequence[Evaluation], measures: Sequence[Measure]
) -> Iterator[Finding]:
    for measure in measures:
        ranked = spearman([e.value(measure) for e in own], [e.value(measure) for e in other])
        yield Finding(measure, kind, what, ranked)


def _gaussian(name: Measure, base: Scorer, own: Sequence[Evaluation], seed: int) -> float:
    """The spread of the scores of Gaussian rows of the batch's size, relative to that of the candidates."""
    alive = [v for e in own if math.isfinite(v := e.value(name))]
    score = declared((name,))[name].measure
    assert isinstance(score, OfGradients)
    samples, entries = len(base.batch.y), base.batch.x.numel() // len(base.batch.y)
    random = []
    for index in range(_GAUSSIANS):
        generator = torch.Generator().manual_seed(keys.derive(seed, "audit", "gaussian", index))
        rows = torch.randn(samples, entries, generator=generator, dtype=torch.float64)
        random.append(result(name, score.result, rows, base.batch.y).value)
    spread = statistics.pstdev(alive) if alive else 0.0
    return statistics.pstdev(random) / spread if spread else math.nan


def _descriptors(specs: Sequence[NetworkSpec]) -> dict[str, list[float]]:
    """Properties of each candidate that are known without running it."""
    shapes = port_shapes(specs[0])

    def first(spec: NetworkSpec) -> float:
        return min((bc.target for bc in spec.backward), default=len(shapes))

    def parameters(spec: NetworkSpec) -> float:
        return sum((shapes[bc.source][0] + 2) * shapes[bc.target][0] for bc in spec.backward)

    def operations(spec: NetworkSpec) -> float:
        return sum(
            shapes[bc.source][0] * shapes[bc.target][0] * math.prod(spatial(shapes[bc.target])) for bc in spec.backward
        )

    def rule(spec: NetworkSpec) -> float:
        return sum(1.0 - (bc.source - bc.target) for bc in spec.backward)

    return {
        "first input port": [first(s) for s in specs],
        "number of connections": [float(len(s.backward)) for s in specs],
        "connections minus their distance": [rule(s) for s in specs],
        "parameters added": [parameters(s) for s in specs],
        "operations added": [operations(s) for s in specs],
    }
