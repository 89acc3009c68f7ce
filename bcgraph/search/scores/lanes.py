"""Scores of several candidates from one pass over all of them, side by side along the batch axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from bcgraph.nn.determinism import full_precision
from bcgraph.nn.lanes import lanes_of
from bcgraph.plugins.values import OfGradients, OfSpikes, Score
from bcgraph.search.records.evaluations import Measure
from bcgraph.search.scores.networks import result, rows_of
from bcgraph.search.scores.result import ScoreResult
from bcgraph.search.scores.scoring import scoring
from bcgraph.search.supernet.at_once import Finish, Start
from bcgraph.search.supernet.lanes import Lane, LaneSuffixes, backbone, compiled, copies
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.prefix_cache import PrefixCache, PrefixModel

Terms = Mapping[Measure, Mapping[tuple[int, int], Any]]
"""For each score of spikes the terms of the cache, by port and step."""


@dataclass(frozen=True, eq=False)
class LaneScores:
    """Scores up to `lanes` candidates at once, as `Incremental` does one: x as the network takes it, labels y `[N]`.

    `cache` and `terms` are its own, without copies of the batch. Where gradients are wanted, the backbone runs on a
    copy of the batch for each candidate, once for all that follow, so that their gradients stay apart.
    """

    prefix: PrefixModel
    x: Tensor
    y: Tensor
    scores: Mapping[Measure, Score]
    lanes: int
    cache: Callable[[], PrefixCache]
    terms: Callable[[], Terms]

    def __call__(self, candidates: Sequence[Lowered]) -> Start[dict[Measure, ScoreResult]]:
        """What starts to compute the scores of each of `candidates`, which have the backbone of the cache.

        They are compiled now. What starts the work does not wait for the device, as a score itself may.
        """
        lanes = self.lanes if self._of_gradients else 0
        suffixes = compiled(self.prefix, candidates, spikes=bool(self._of_spikes), apart=lanes)
        return partial(self._started, suffixes)

    @cached_property
    def _of_spikes(self) -> dict[Measure, OfSpikes]:
        return {name: each.measure for name, each in self.scores.items() if isinstance(each.measure, OfSpikes)}

    @cached_property
    def _of_gradients(self) -> dict[Measure, OfGradients]:
        return {name: each.measure for name, each in self.scores.items() if isinstance(each.measure, OfGradients)}

    def _started(self, suffixes: LaneSuffixes) -> Finish[dict[Measure, ScoreResult]]:
        gradients = bool(self._of_gradients)
        rows: list[Tensor] = []
        if gradients:
            values = [self._copies[1][name].detach().requires_grad_() for name in suffixes.reads]
            x = self._copies[0].detach().requires_grad_()
        else:
            cache = self.cache()
            values, x = [cache.values[name].detach() for name in suffixes.reads], cache.x.detach()
        with scoring(suffixes.module), torch.set_grad_enabled(gradients):
            found = suffixes.run(x, values)
            terms = self._terms_of(suffixes, found)
            if gradients:
                outputs = [suffixes.output(found, k) for k in range(len(suffixes.outputs))]
                del found
                rows = self._jacobians(outputs, x, dict(zip(suffixes.reads, values, strict=True)))
        return partial(self._finished, terms, rows)

    def _finished(self, terms: Sequence[Terms], rows: Sequence[Tensor]) -> list[dict[Measure, ScoreResult]]:
        results: list[dict[Measure, ScoreResult]] = []
        with full_precision():
            for number, own in enumerate(terms):
                results.append({})
                for name, of_spikes in self._of_spikes.items():
                    ordered = (own[name][place] for place in sorted(own[name]))
                    results[-1][name] = result(name, of_spikes.result, ordered)
                for name, of_gradients in self._of_gradients.items():
                    results[-1][name] = result(name, of_gradients.result, rows[number], self.y)
        return results

    def _terms_of(self, suffixes: LaneSuffixes, found: Mapping[str, Tensor]) -> list[Terms]:
        """The terms of each candidate: its own, and those of the cache where it does not differ."""
        scores = self._of_spikes
        if not scores:
            return [{}] * len(suffixes.outputs)
        neurons = self.prefix.module.meta["neurons"]
        graded = {port for port, layer in neurons.items() if not layer.neuron.equations.binary}
        known = self.terms()
        made: dict[tuple[Measure, Lane], Any] = {}

        def term(name: Measure, place: tuple[int, int], lane: Lane) -> Any:
            # Candidates that share a lane share its term.
            if (name, lane) not in made:
                codes = lanes_of(found[lane.tensor].detach(), suffixes.held[lane.tensor], lane.number)
                codes = (codes != 0).to(codes.dtype) if place[0] in graded else codes
                made[name, lane] = scores[name].term(codes)
            return made[name, lane]

        return [
            {
                name: {**known[name], **{place: term(name, place, lane) for place, lane in places.items()}}
                for name in scores
            }
            for places in suffixes.spikes
        ]

    @cached_property
    def _copies(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The copies of the batch, side by side, and the values of the cache with as many lanes."""
        module, merged = backbone(self.prefix, self.lanes)
        x = copies(self.x, self.lanes, self._axis).requires_grad_()
        with scoring(module), torch.enable_grad():
            found = dict(zip(merged.gives, module(x), strict=True))
        return x, {name: found[lane.tensor] for name, lane in merged.where[0].items()}

    @property
    def _axis(self) -> int:
        """The axis of the samples in the batch."""
        return 1 if self.prefix.program.sequence else 0

    def _jacobians(self, outputs: Sequence[Tensor], x: Tensor, values: Mapping[str, Tensor]) -> list[Tensor]:
        """The rows `[N, D]` of each candidate: through the suffixes to the values they read, then through the backbone.

        No two candidates share a value, so the gradient of the sum over all holds that of each in its lane.
        """
        total = torch.stack([output.mean(dim=0).sum() for output in outputs]).sum()
        whole = torch.zeros_like(x)
        if total.requires_grad:
            direct, *through = torch.autograd.grad(total, [x, *values.values()], allow_unused=True)
            if direct is not None:
                whole += direct
            start, cached = self._copies
            ends = [(cached[name], g) for name, g in zip(values, through, strict=True) if g is not None]
            ends = [(value, g) for value, g in ends if value.requires_grad]
            if ends:
                reached = torch.autograd.grad(
                    [value for value, _ in ends], start, [g for _, g in ends], retain_graph=True, allow_unused=True
                )
                whole += reached[0] if reached[0] is not None else 0
        parts = (lanes_of(whole, self.lanes, k, axis=self._axis) for k in range(len(outputs)))
        return [rows_of(part, output) for part, output in zip(parts, outputs, strict=True)]
