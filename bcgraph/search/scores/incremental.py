"""Incremental scoring: from a prefix cache, one forward pass for both scores, and input gradients only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bcgraph.compiler.targets.fx.observer import codes
from bcgraph.search.records.evaluations import Measure
from bcgraph.search.scores.e_score import check_labels, e_score_from_jacobian, rows_of
from bcgraph.search.scores.n_score import KernelTerm, kernel_term, n_score_from_terms
from bcgraph.search.scores.scoring import ScoreResult, scoring
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.prefix_cache import PrefixCache, PrefixModel


@dataclass(frozen=True, eq=False)
class Incremental:
    """Scores candidates by `measures` on one batch: x as the network takes it, labels y `[N]`.

    Equal to `scores.n_result` and `scores.e_result` on the candidate compiled with the same modules: forward to the
    last digit, gradients up to the order of their sums. The first candidate fills the cache, which lives as long as
    this object.
    """

    prefix: PrefixModel
    x: Tensor
    y: Tensor
    measures: tuple[Measure, ...]

    def __call__(self, candidate: Lowered) -> dict[Measure, ScoreResult]:
        """The scores of `candidate`, which has the backbone of the cache."""
        cache = self._cache
        suffix = self.prefix.suffix(candidate)
        gradients = "e" in self.measures
        values = [cache.values[name].detach().requires_grad_(gradients) for name in suffix.reads]
        x = cache.x.detach().requires_grad_(gradients)
        with scoring(suffix.module), torch.set_grad_enabled(gradients):
            output, spikes = suffix.observe(x, values)
            found: dict[Measure, ScoreResult] = {}
            if "n" in self.measures:
                fresh = {place: kernel_term(s) for place, s in codes(suffix.module, spikes).items()}
                terms = {**self._terms, **fresh}
                found["n"] = n_score_from_terms(terms[place] for place in sorted(terms))
            spikes.clear()
            if gradients:
                rows = self._jacobian(output, x, dict(zip(suffix.reads, values, strict=True)))
                found["e"] = e_score_from_jacobian(rows, self.y)
        return found

    @cached_property
    def _cache(self) -> PrefixCache:
        gradients = "e" in self.measures
        if gradients:
            check_labels(self.x, self.y)
        x = self.x.detach().clone().requires_grad_(gradients)
        with scoring(self.prefix.module), torch.set_grad_enabled(gradients):
            return self.prefix.cache(x)

    @cached_property
    def _terms(self) -> dict[tuple[int, int], KernelTerm]:
        """By port and step, the kernel terms of the cache. A candidate keeps those whose spikes it does not change."""
        return {place: kernel_term(s) for place, s in codes(self.prefix.module, self._cache.spikes).items()}

    def _jacobian(self, output: Tensor, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """The rows `[N, D]`: back through the suffix to the values that it read, then through the backbone to x."""
        total = output.mean(dim=0).sum()
        whole = torch.zeros_like(x)
        if not total.requires_grad:
            return rows_of(whole)
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
        return rows_of(whole)
