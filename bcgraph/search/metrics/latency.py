"""The latency of a candidate: its step form in onnxruntime, on one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcgraph.compiler.targets.export import export
from bcgraph.errors import CompileError, RunError, SearchError
from bcgraph.machine import refuses
from bcgraph.runtime import Network, latency
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.records.failures import CANDIDATE_FAILURES, reason_of
from bcgraph.search.space.search_space import of_search, wired
from bcgraph.spaces import Member

# Seconds that are timed for each candidate, and calls at most.
_LIMIT, _CALLS = 0.5, 50


def check(spec: NetworkSpec) -> None:
    """Raise SearchError (E067) where the networks of the search have no step form that onnxruntime runs.

    That is decided by the backbone and by what connections are made of, so one network of each kind is tried.
    """
    try:
        for each in _kinds(spec):
            Latencies(0).milliseconds(each, calls=1)
    except (CompileError, RunError) as error:
        if refuses(error):
            raise
        found = error.diagnostics[0]
        named = "latency" in (*spec.search.maximize, *spec.search.minimize)
        bound = next((b for b in spec.search.subject_to if b.metric == "latency"), None)
        raise SearchError(
            "E067",
            f"`latency` is that of the step form in onnxruntime, which this network does not have: {found.message}",
            span=None if named or bound is None else bound.span,
            hint=found.hint or "another metric",
        ) from error


def _kinds(spec: NetworkSpec) -> Iterator[NetworkSpec]:
    """The backbone, and it with a connection of each kind."""
    space = of_search(spec)
    yield wired(spec, space.fixed)
    if space.most:
        seen: set[tuple[object, ...]] = set()
        for number in range(space.count):
            key = space.key(number)
            kind = (key[0] < key[1], *key[3:]) if isinstance(key, Member) else ()
            if kind not in seen:
                seen.add(kind)
                yield wired(spec, tuple(sorted((*space.fixed, key))))


@dataclass(frozen=True, eq=False)
class Latencies:
    """Measures `latency`: the median of the milliseconds that one sample takes, step by step, on this machine.

    Weights do not change it, so they are the initial ones of `seed`. It is the one metric that another run does not
    repeat; a search that is resumed takes it from its log.
    """

    seed: int

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each spec, in order."""
        for spec in specs:
            try:
                yield Evaluation.of({"latency": self.milliseconds(spec)})
            except CANDIDATE_FAILURES as error:
                yield Evaluation.failed(("latency",), reason_of(error))

    def milliseconds(self, spec: NetworkSpec, calls: int = _CALLS) -> float:
        """The latency of one network. Raises CompileError and RunError where it has no step form that runs."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "step.onnx"
            export(spec, path, form="step", seed=self.seed, settle=False)
            network = Network(path, threads=1)
            lead = (spec.steps, 1) if spec.input.kind == "sequence" else (1,)
            inputs = np.random.default_rng(0).standard_normal((*lead, *spec.input.shape), dtype=np.float32)
            return latency(network, inputs, calls=calls, limit=_LIMIT).median
