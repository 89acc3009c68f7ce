"""Scoring candidates on from the trace of their batch: one forward pass for both scores, and input gradients only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Measure
from bcgraph.search.scores import training_free
from bcgraph.search.scores.training_free import Agreement, ScoreResult
from bcgraph.search.supernet.prefix_cache import Trace, Tracer

Place = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Incremental:
    """Scores candidates by `measures` on one batch: x as the network takes it, labels y `[N]`.

    Equal to `scores.n_result` and `scores.e_result` on the candidate compiled with the same modules: forward to the
    last digit, gradients up to the order of their sums. The trace is taken with the first candidate and held as long
    as this is.
    """

    tracer: Tracer
    x: Tensor
    y: Tensor
    measures: tuple[Measure, ...]

    def __call__(self, spec: NetworkSpec) -> dict[Measure, ScoreResult]:
        """The scores of `spec`, which has the backbone of the trace."""
        trace = self._trace
        candidate = self.tracer.candidate(spec)
        gradients = "e" in self.measures
        values = [trace.values[name].detach().requires_grad_(gradients) for name in candidate.reads]
        x = trace.x.detach().requires_grad_(gradients)
        with training_free.scoring(candidate.module), torch.set_grad_enabled(gradients):
            output, spikes = candidate.run(x, values)
            found: dict[Measure, ScoreResult] = {}
            if "n" in self.measures:
                changed = {place: training_free.agreement(s) for place, s in spikes.items()}
                terms = {**self._agreements, **changed}
                found["n"] = training_free.n_score_from_agreements(terms[place] for place in sorted(terms))
            spikes.clear()
            if gradients:
                jacobian = self._jacobian(output, x, dict(zip(candidate.reads, values, strict=True)))
                found["e"] = training_free.e_score_from_jacobian(jacobian, self.y)
        return found

    @cached_property
    def _trace(self) -> Trace:
        gradients = "e" in self.measures
        if gradients:
            training_free.check_labels(self.x, self.y)
        x = self.x.detach().clone().requires_grad_(gradients)
        with training_free.scoring(self.tracer.module), torch.set_grad_enabled(gradients):
            return self.tracer.trace(x)

    @cached_property
    def _agreements(self) -> dict[Place, Agreement]:
        """The terms of the kernel that a candidate takes over where its spikes are those of the trace."""
        return {place: training_free.agreement(s) for place, s in self._trace.spikes.items()}

    def _jacobian(self, output: Tensor, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """The rows `[N, D]`: back through the candidate to what it read, and from there through the trace to x."""
        total = output.mean(dim=0).sum()
        whole = torch.zeros_like(x)
        if not total.requires_grad:
            return training_free.rows_of(whole)
        direct, *through = torch.autograd.grad(total, [x, *values.values()], allow_unused=True)
        if direct is not None:
            whole += direct
        ends = [(self._trace.values[name], g) for name, g in zip(values, through, strict=True) if g is not None]
        ends = [(value, g) for value, g in ends if value.requires_grad]
        if ends:
            reached = torch.autograd.grad(
                [value for value, _ in ends], self._trace.x, [g for _, g in ends], retain_graph=True, allow_unused=True
            )
            whole += reached[0] if reached[0] is not None else 0
        return training_free.rows_of(whole)
