"""One-shot evaluation: an architecture's validation accuracy with the supernet's weights (paper 4.2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from bcgraph import keys
from bcgraph.data.split import Split
from bcgraph.nn.modules import BatchNorm, BatchNormPerStep
from bcgraph.readout import correct
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.records.failures import CANDIDATE_FAILURES, reason_of
from bcgraph.search.supernet.at_once import AtOnce, lowered_of
from bcgraph.search.supernet.lanes import LaneSuffixes, compiled
from bcgraph.search.supernet.prefix_cache import PrefixCache, PrefixModel, Suffix
from bcgraph.search.supernet.shared_weights import FoldedModules
from bcgraph.search.supernet.supernet import Supernet
from bcgraph.training.accuracy import evaluating

# Samples in one validation batch. In evaluation mode the size changes no result.
BATCH = 256

MEMORY = 2**29
"""Bytes of validation data that are kept for all candidates; a larger set is read again for each."""

PREFIX_MEMORY = 2**30
"""Bytes that the prefix cache of a batch may take; a batch is as large as that allows."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many samples a candidate gets right, or why it failed. Tallies of parts of the data add up in order."""

    correct: int = 0
    reason: str | None = None

    def __add__(self, later: Tally) -> Tally:
        return Tally(self.correct + later.correct, self.reason if self.reason is not None else later.reason)

    def evaluation(self, samples: int) -> Evaluation:
        """The share of all `samples`."""
        if self.reason is not None:
            return Evaluation.failed(("accuracy",), self.reason)
        return Evaluation(accuracy=self.correct / samples)


@dataclass(frozen=True, eq=False)
class OneShot:
    """Evaluates candidates on `validation` with the weights of a trained supernet, which must not change any more.

    The outer loop goes over batches and the inner one over candidates, which share the prefix cache of each batch. With
    `recalibrate` > 0 there is nothing to share: a candidate's batch norms first take their running statistics from that
    many training batches, drawn by key and the same for all candidates; afterwards the supernet's own statistics are
    restored.

    With `whole` weights are rounded to 16 bits where they meet spikes: their sums are exact, in any order, and take
    about half of the time. Not for recalibration.

    Up to `at_once` candidates run in one pass, side by side along the batch axis; with recalibration each runs alone.
    """

    supernet: Supernet
    validation: Split
    recalibrate: int = 0
    whole: bool = False
    at_once: int = 1

    def __call__(self, specs: Sequence[NetworkSpec]) -> Iterator[Evaluation]:
        """One evaluation for each spec, in order."""
        if not self.recalibrate:
            yield from (tally.evaluation(len(self.validation)) for tally in self.tally(specs))
            return
        for spec in specs:
            try:
                yield Evaluation(accuracy=self._recalibrated(spec))
            except CANDIDATE_FAILURES as error:
                yield Evaluation.failed(("accuracy",), reason_of(error))

    def tally(self, specs: Sequence[NetworkSpec]) -> list[Tally]:
        """How many samples each candidate gets right, from one pass over the validation data without recalibration."""
        return list(self._at_once.together(specs, self._grouped, self._one_by_one))

    @cached_property
    def _at_once(self) -> AtOnce:
        return AtOnce(self.at_once)

    def _grouped(self, groups: Sequence[Sequence[NetworkSpec]]) -> list[Tally]:
        """The tallies of groups of candidates that run side by side. Those that cannot be lowered fail alone."""
        model = self._model
        readout = groups[0][0].readout
        lowered = [lowered_of(specs, model.lowering) for specs in groups]
        suffixes = [compiled(model, list(found.values())) for found, _ in lowered if found]
        totals = [torch.zeros(len(s.outputs), dtype=torch.long, device=self.supernet.device) for s in suffixes]
        with evaluating(nn.ModuleList([model.module, *(s.module for s in suffixes)])), torch.no_grad():
            for x, y in self._batches(self._batch(model)):
                # All groups share the cache of a batch, and nothing waits for the device before the end.
                cache = model.cache(x)
                for each, total in zip(suffixes, totals, strict=True):
                    total += self._correct(each, cache, y, readout)
        counts = iter([count for total in totals for count in total.tolist()])
        return [
            Tally(reason=failed[place]) if place in failed else Tally(int(next(counts)))
            for specs, (_, failed) in zip(groups, lowered, strict=True)
            for place in range(len(specs))
        ]

    def _correct(self, suffixes: LaneSuffixes, cache: PrefixCache, y: Tensor, readout: str) -> Tensor:
        """How many samples of a batch each candidate of `suffixes` gets right."""
        found = suffixes.run(cache.x, [cache.values[name] for name in suffixes.reads])
        outputs = (suffixes.output(found, k) for k in range(len(suffixes.outputs)))
        return torch.stack([correct(output, readout, y).sum() for output in outputs])

    def _one_by_one(self, specs: Sequence[NetworkSpec]) -> list[Tally]:
        if not specs:
            return []
        model = self._model
        found = [_Count() for _ in specs]
        for spec, count in zip(specs, found, strict=True):
            with count.failing():
                count.suffix = model.suffix(model.lowering(spec))
        size = self._batch(model)
        modules = nn.ModuleList([model.module, *(c.suffix.module for c in found if c.suffix is not None)])
        with evaluating(modules):
            for x, y in self._batches(size):
                cache = model.cache(x)
                for count in found:
                    if count.suffix is not None:
                        with count.failing():
                            output = cache.run(count.suffix)
                            count.correct += int(correct(output, specs[0].readout, y).sum())
        return [Tally(count.correct, count.reason) for count in found]

    def batch(self) -> int:
        """How many samples a batch has."""
        return self._batch(self._model)

    @cached_property
    def _model(self) -> PrefixModel:
        """That of all candidates, which have the backbone of the supernet."""
        return PrefixModel.of(self._modules, self.supernet.spec, inference=True)

    @cached_property
    def _modules(self) -> FoldedModules:
        return FoldedModules(self.supernet.weights, whole=self.whole)

    def _batch(self, model: PrefixModel) -> int:
        """How many samples a batch has: a power of two, the same on every machine."""
        each = model.size(1, self.supernet.dtype.itemsize)
        return max(1, min(BATCH, 1 << (PREFIX_MEMORY // each).bit_length() - 1 if each < PREFIX_MEMORY else 1))

    @contextmanager
    def model(self, spec: NetworkSpec) -> Iterator[nn.Module]:
        """The network of a candidate with the supernet's weights, recalibrated where that is asked for."""
        model = self.supernet.weights.candidate(spec, self.supernet.schedule)
        with kept_statistics(model):
            if self.recalibrate:
                self._recalibrate(model)
            yield model

    def _recalibrated(self, spec: NetworkSpec) -> float:
        with self.model(spec) as model:
            return self._share(model, spec.readout)

    def _share(self, model: nn.Module, readout: str) -> float:
        """The share of the validation samples that `model` gets right."""
        right = 0
        with evaluating(model):
            for x, y in self._batches(BATCH):
                right += int(correct(model(x), readout, y).sum())
        return right / len(self.validation)

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self.supernet.device, self.supernet.dtype)

    def _batches(self, size: int) -> Iterable[tuple[Tensor, Tensor]]:
        """The validation batches as the network takes them, read once for all candidates where they fit into memory."""
        x, _ = self.validation.take([0])
        placed = ((self._placed(x), y.to(self.supernet.device)) for x, y in self.validation.batches(size))
        if x.element_size() * x.numel() * len(self.validation) > MEMORY:
            return placed
        if size not in self._held:
            self._held[size] = list(placed)
        return self._held[size]

    @cached_property
    def _held(self) -> dict[int, list[tuple[Tensor, Tensor]]]:
        return {}

    @torch.no_grad()
    def _recalibrate(self, model: nn.Module) -> None:
        """Put the average over all batches and steps into the running statistics.

        It is the moving average of training, started at zero and divided by its total weight, so nothing of the
        supernet's own statistics is left in it.
        """
        norms = _norms(model)
        modes = [norm.training for norm in norms]
        split = self.supernet.split.plain()
        key = keys.derive(self.supernet.seed, "recalibrate")
        model.eval()
        for norm in norms:
            norm.train()
            for buffer in norm.buffers():
                buffer.zero_()
        batches = split.batches(self.supernet.spec.data.batch, key, drop_last=True)
        for _, (x, _) in zip(range(self.recalibrate), batches, strict=False):
            model(self._placed(x))
        for norm, mode in zip(norms, modes, strict=True):
            _divide(norm)
            norm.train(mode)


@dataclass(eq=False)
class _Count:
    """How many samples a candidate gets right, as long as nothing fails."""

    suffix: Suffix | None = None
    correct: int = 0
    reason: str | None = None

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Keeps the reason of a failure in the block; the candidate does not run again."""
        try:
            yield
        except CANDIDATE_FAILURES as error:
            self.suffix, self.reason = None, reason_of(error)


@contextmanager
def kept_statistics(model: nn.Module) -> Iterator[None]:
    """Restores the running statistics of `model` on exit."""
    norms = _norms(model)
    buffers = [{name: b.clone() for name, b in norm.named_buffers()} for norm in norms]
    try:
        yield
    finally:
        for norm, kept in zip(norms, buffers, strict=True):
            for name, buffer in norm.named_buffers():
                buffer.copy_(kept[name])


def _norms(model: nn.Module) -> list[BatchNorm | BatchNormPerStep]:
    return [m for m in model.modules() if isinstance(m, BatchNorm | BatchNormPerStep)]


def _divide(norm: BatchNorm | BatchNormPerStep) -> None:
    """Divide moving averages that started at zero by their total weight; without an update, mean 0 and variance 1."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    updates = norm.num_batches_tracked.to(norm.running_mean.dtype)
    weight = 1 - (1 - (norm.momentum or 0.0)) ** updates
    if weight.dim():
        weight = weight[:, None]
    some = weight > 0
    norm.running_mean.copy_(torch.where(some, norm.running_mean / weight, 0.0))
    norm.running_var.copy_(torch.where(some, norm.running_var / weight, 1.0))
