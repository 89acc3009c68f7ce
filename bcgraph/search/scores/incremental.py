"""Incremental scoring: from a prefix cache, one forward pass for all scores, and input gradients only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bcgraph.compiler.targets.fx.observer import codes
from bcgraph.plugins.values import OfGradients, OfSpikes, Score
from bcgraph.search.records.evaluations import Measure
from bcgraph.search.scores.lanes import LaneScores
from bcgraph.search.scores.networks import check_labels, result, rows_of
from bcgraph.search.scores.result import ScoreResult
from bcgraph.search.scores.scoring import scoring
from bcgraph.search.supernet.at_once import Start
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.prefix_cache import PrefixCache, PrefixModel


@dataclass(frozen=True, eq=False)
class Incremental:
    """Scores candidates by `scores` of spikes and of gradients, by name, on one batch: x as the network takes it,
    labels y `[N]`.

    Equal to `scores.n_result` and `scores.e_result` on the candidate compiled with the same modules: forward to the
    last digit, gradients up to the order of their sums. The first candidate fills the cache, which lives as long as
    this object. `lanes` is how many candidates `several` takes at most.
    """

    prefix: PrefixModel
    x: Tensor
    y: Tensor
    scores: Mapping[Measure, Score]
    lanes: int = 1

    def __call__(self, candidate: Lowered) -> dict[Measure, ScoreResult]:
        """The scores of `candidate`, which has the backbone of the cache."""
        cache = self._cache
        suffix = self.prefix.suffix(candidate)
        gradients = self._gradients
        values = [cache.values[name].detach().requires_grad_(gradients) for name in suffix.reads]
        x = cache.x.detach().requires_grad_(gradients)
        with scoring(suffix.module), torch.set_grad_enabled(gradients):
            output, spikes = suffix.observe(x, values)
            found: dict[Measure, ScoreResult] = {}
            fires = codes(self.prefix.module, spikes) if self._terms else {}
            for name, kept in self._terms.items():
                score = self._of_spikes[name]
                terms = {**kept, **{place: score.term(s.detach()) for place, s in fires.items()}}
                found[name] = result(name, score.result, (terms[place] for place in sorted(terms)))
            fires.clear()
            spikes.clear()
            if gradients:
                rows = self._jacobian(output, x, dict(zip(suffix.reads, values, strict=True)))
                for name, each in self.scores.items():
                    if isinstance(each.measure, OfGradients):
                        found[name] = result(name, each.measure.result, rows, self.y)
        return found

    def several(self, candidates: Sequence[Lowered]) -> Start[dict[Measure, ScoreResult]]:
        """What starts to compute the scores of several candidates in one pass over all of them, side by side."""
        return self._side_by_side(candidates)

    @cached_property
    def _side_by_side(self) -> LaneScores:
        return LaneScores(
            self.prefix, self.x, self.y, self.scores, self.lanes, lambda: self._cache, lambda: self._terms
        )

    @cached_property
    def _of_spikes(self) -> dict[Measure, OfSpikes]:
        return {name: each.measure for name, each in self.scores.items() if isinstance(each.measure, OfSpikes)}

    @cached_property
    def _gradients(self) -> bool:
        return any(isinstance(each.measure, OfGradients) for each in self.scores.values())

    @cached_property
    def _cache(self) -> PrefixCache:
        gradients = self._gradients
        if gradients:
            check_labels(self.x, self.y)
        x = self.x.detach().clone().requires_grad_(gradients)
        with scoring(self.prefix.module), torch.set_grad_enabled(gradients):
            return self.prefix.cache(x)

    @cached_property
    def _terms(self) -> dict[Measure, dict[tuple[int, int], Any]]:
        """For each score of spikes, by port and step, the terms of the cache. A candidate keeps those whose spikes it
        does not change."""
        if not self._of_spikes:
            return {}
        fires = codes(self.prefix.module, self._cache.spikes)
        return {
            name: {place: score.term(s.detach()) for place, s in fires.items()}
            for name, score in self._of_spikes.items()
        }

    def _jacobian(self, output: Tensor, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """The rows `[N, D]`: back through the suffix to the values that it read, then through the backbone to x."""
        total = output.mean(dim=0).sum()
        whole = torch.zeros_like(x)
        if not total.requires_grad:
            return rows_of(whole, output)
        direct, *through = torch.autograd.grad(total, [x, *values.values()], allow_unused=True)
        if direct is not None:
            whole += direct
        ends = [(self._cache.values[name], g) for name, g in zip(values, through, strict=True) if g is not None]
        ends = [(value, g) for value, g in ends if value.requires_grad]
        if ends:
            reached = torch.autograd.grad(
                [value for value, _ in ends], self._cache.x, [g for _, g in ends], retain_graph=True, allow_unused=True
            )
            whole += reached[0] if reached[0] is not None else 0
        return rows_of(whole, output)
