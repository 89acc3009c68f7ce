"""The latency of a candidate: its step form in onnxruntime, on one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcgraph.compiler.targets.export import export
from bcgraph.errors import CompileError, RunError
from bcgraph.runtime import Network, latency
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.records.failures import CANDIDATE_FAILURES, reason_of

# Seconds that are timed for each candidate, and calls at most.
_LIMIT, _CALLS = 0.5, 50


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
                yield Evaluation.of({"latency": self._milliseconds(spec)})
            except (*CANDIDATE_FAILURES, CompileError, RunError) as error:
                yield Evaluation.failed(("latency",), reason_of(error))

    def _milliseconds(self, spec: NetworkSpec) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "step.onnx"
            export(spec, path, form="step", seed=self.seed)
            network = Network(path, threads=1)
            lead = (spec.steps, 1) if spec.input.kind == "sequence" else (1,)
            inputs = np.random.default_rng(0).standard_normal((*lead, *spec.input.shape), dtype=np.float32)
            return latency(network, inputs, calls=_CALLS, limit=_LIMIT).median
