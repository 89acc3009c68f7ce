"""Energy and spikes of a candidate: measured on validation data, with the weights of the supernet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bcgraph.firing import measure
from bcgraph.profile import profile
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.records.failures import CANDIDATE_FAILURES, reason_of
from bcgraph.search.supernet.one_shot import BATCH, OneShot


@dataclass(frozen=True, eq=False)
class Firing:
    """Measures `energy`, in joules a sample, and `spikes`, their number in all steps of a sample (`bcgraph.profile`).

    `shot` has the weights and the data, and recalibrates where the search does.
    """

    shot: OneShot
    measures: tuple[str, ...]

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each spec, in order."""
        for spec in specs:
            try:
                found = self._found(spec)
                yield Evaluation.of({m: found[m] for m in self.measures})
            except CANDIDATE_FAILURES as error:
                yield Evaluation.failed(self.measures, reason_of(error))

    def _found(self, spec: NetworkSpec) -> dict[str, float]:
        with self.shot.model(spec) as model:
            rates = measure(model, iter(self.shot.validation.batches(BATCH)))
        found = profile(spec, rates)
        energy = math.fsum(found.energy(layer) for layer in found.layers)
        spikes = math.fsum(math.prod(port.shape) * math.fsum(port.rates) for port in found.ports)
        return {"energy": energy, "spikes": spikes}
