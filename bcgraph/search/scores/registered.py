"""Scores of a candidate by a function of the network at initialization."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bcgraph import plugins
from bcgraph.search.records.evaluations import Measure
from bcgraph.search.scores.networks import entry
from bcgraph.search.scores.result import ScoreResult
from bcgraph.search.scores.scoring import scoring
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.shared_weights import SharedWeights


@dataclass(frozen=True, eq=False)
class Registered:
    """Scores candidates by the functions of `measures` on one batch: x as the network takes it, labels y `[N]`.

    `uses` are the plugins that may have them.
    """

    weights: SharedWeights
    x: Tensor
    y: Tensor
    measures: tuple[Measure, ...]
    uses: tuple[str, ...]

    def __call__(self, candidate: Lowered) -> dict[Measure, ScoreResult]:
        """The scores of `candidate`. Raises PluginError (E095) when one fails, SearchError (E089) for an unknown."""
        model = self.weights.compiled(candidate)
        return {measure: self._result(measure, model) for measure in self.measures}

    def _result(self, measure: Measure, model: nn.Module) -> ScoreResult:
        found = entry(measure, self.uses)
        with plugins.calling(found), scoring(model), _restored(model), torch.enable_grad():
            value = float(found.value.measure(model, self.x.detach().clone(), self.y))
        if math.isfinite(value):
            return ScoreResult(value)
        return ScoreResult.dead(f"{found.title} is {value}")


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Undoes on exit what is done to parameters and their gradients."""
    kept = [(parameter, parameter.detach().clone(), parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value, learns in kept:
                parameter.requires_grad_(learns)
                parameter.copy_(value)
                parameter.grad = None
