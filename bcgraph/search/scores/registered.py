"""Registered scores of a candidate: a user's function on the network at initialization."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bcgraph import plugins
from bcgraph.errors import SearchError
from bcgraph.plugins.values import Score
from bcgraph.search.records.evaluations import Measure
from bcgraph.search.scores.scoring import ScoreResult, scoring
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.shared_weights import SharedWeights


@dataclass(frozen=True, eq=False)
class Registered:
    """Scores candidates by registered `measures` on one batch: x as the network takes it, labels y `[N]`.

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
        entry = plugins.find("score", measure, self.uses)
        if entry is None:
            raise SearchError(
                "E089",
                f"the score `{measure}` is not registered in this process",
                hint="worker processes know what an installed package registers (docs/extending.md)",
            )
        score: Score = entry.value
        with plugins.calling(entry), scoring(model), _restored(model), torch.enable_grad():
            value = float(score.measure(model, self.x.detach().clone(), self.y))
        if math.isfinite(value):
            return ScoreResult(value)
        return ScoreResult.dead(f"{entry.title} is {value}")


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
