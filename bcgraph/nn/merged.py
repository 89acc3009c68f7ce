"""Merged projections: many connections in few kernels.

The projections of one source lie side by side in the channels of one tensor, `[N, C, H, W]`. A `Run` is a range of
channels that stays together when they are summed by target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcgraph.nn.lif import needs_gradient
from bcgraph.nn.modules import BatchNorm
from bcgraph.nn.norm import folding, step_norm
from bcgraph.nn.packed_spikes import spike_conv
from bcgraph.nn.transforms import first_order, traced

Run = tuple[int, int, int]
"""(first, count, at): channels `first` to `first + count` of a term, which begin at channel `at` of the sum."""

Runs = tuple[Run, ...]


def stack(*parameters: Tensor) -> Tensor:
    """Parameters one after the other along their first axis."""
    return torch.cat(parameters)


def fold_norms(
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    shifts: Sequence[Tensor],
    means: Sequence[Tensor],
    variances: Sequence[Tensor],
    eps: float,
) -> tuple[Tensor, Tensor]:
    """`bcgraph.nn.conv.folded.fold_norm` of several convolutions, one after the other along the first axis."""
    scale, shift, mean, var = (torch.cat(list(some)) for some in (scales, shifts, means, variances))
    factor, shifted = folding(scale, shift, mean, var, eps, None)
    weight = torch.cat(list(weights))
    factor = factor.view(-1, 1, 1, 1)
    return weight * factor if needs_gradient(weight, factor) else weight.mul_(factor), shifted


def project(x: Tensor, weight: Tensor, bits: Tensor | None = None) -> Tensor:
    """The pointwise convolution of x `[N, C, H, W]`. `bits` is `bcgraph.nn.packed_spikes.pack(x)`."""
    if bits is None:
        return F.conv2d(x, weight)
    return spike_conv(x, bits, weight, None, (1, 1), (0, 0), (1, 1), 1)


def stack_sum(terms: Sequence[Tensor], runs: Sequence[Runs], channels: int) -> Tensor:
    """The sum of `terms`, each `[N, C_k, H, W]`, whose runs of channels go to their places among `channels`."""
    if len(terms) == 1 and runs[0] == ((0, channels, 0),):
        return terms[0]
    if traced():
        return _plain_sum(terms, runs, channels)
    result: Tensor = _StackSum.apply(tuple(runs), channels, *terms)
    return result


def _plain_sum(terms: Sequence[Tensor], runs: Sequence[Runs], channels: int) -> Tensor:
    """`stack_sum` in operations that tracers and transforms can follow."""
    total: Tensor | None = None
    for term, places in zip(terms, runs, strict=True):
        for first, count, at in places:
            part = F.pad(term.narrow(1, first, count), (0, 0, 0, 0, at, channels - at - count))
            total = part if total is None else total + part
    assert total is not None
    return total


class _StackSum(torch.autograd.Function):
    """Adds in place, and keeps nothing: each term's gradient is a part of that of the sum."""

    @staticmethod
    def forward(ctx: Any, runs: tuple[Runs, ...], channels: int, *terms: Tensor) -> Tensor:
        ctx.runs = runs
        whole = ((0, channels, 0),)
        if runs[0] == whole and len(terms) > 1 and runs[1] == whole:
            total, rest = torch.add(terms[0], terms[1]), 2
        elif runs[0] == whole:
            total, rest = terms[0].clone(), 1
        else:
            n, _, h, w = terms[0].shape
            layout = _layout(terms[0])
            total = torch.empty(
                (n, channels, h, w), dtype=terms[0].dtype, device=terms[0].device, memory_format=layout
            ).zero_()
            rest = 0
        for term, places in zip(terms[rest:], runs[rest:], strict=True):
            for first, count, at in places:
                total.narrow(1, at, count).add_(term.narrow(1, first, count))
        return total

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        return (None, None, *(_gathered(grad, places) for places in ctx.runs))


def _gathered(grad: Tensor, runs: Runs) -> Tensor:
    """The gradient of a term: the channels of the sum that its runs went to."""
    parts = [grad.narrow(1, at, count) for _, count, at in runs]
    if len(parts) == 1:
        return parts[0] if parts[0].shape == grad.shape else parts[0].contiguous(memory_format=_layout(grad))
    return torch.cat(parts, 1)


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


class Piece(NamedTuple):
    """A norm inside a term: its module, its channels, and how many copies of each value a later resize makes."""

    norm: BatchNorm
    channels: int
    repeats: int


class NormSum(nn.Module):
    """The sum of projections, each normalized by a batch norm of its own; see `stack_sum`.

    The norms belong to the network, not to this module: their names in the state dict stay. They are called one by one
    where they are more than plain batch norms with one mode: hooked, synchronized over processes, or under a transform.
    """

    terms: tuple[tuple[Piece, ...], ...]

    def __init__(self, terms: tuple[tuple[Piece, ...], ...], runs: tuple[Runs, ...], channels: int) -> None:
        super().__init__()
        object.__setattr__(self, "terms", terms)
        self.runs = runs
        self.channels = channels

    def forward(
        self, ys: Sequence[Tensor], scale: Tensor, shift: Tensor, exists: Tensor | None = None, *, steps: int = 1
    ) -> Tensor:
        """`ys` are `[T*N, C_k, H, W]`, each normalized by step; the result is their sum by target.

        `scale` and `shift` are the affine parameters of all norms in order. `exists` is that of `BatchNorm.forward`.
        """
        norms = [piece.norm for pieces in self.terms for piece in pieces]
        training = norms[0].training
        if traced() or any(type(n) is not BatchNorm or n.training != training or _hooked(n) for n in norms):
            return stack_sum(self._one_by_one(ys, exists, steps), self.runs, self.channels)
        sizes = [sum(piece.channels for piece in pieces) for pieces in self.terms]
        affine = zip(torch.split(scale, sizes), torch.split(shift, sizes), strict=True)
        one = self._trained if training else self._evaluated
        terms = [one(y, pieces, w, b, exists, steps) for y, pieces, (w, b) in zip(ys, self.terms, affine, strict=True)]
        total = stack_sum(terms, self.runs, self.channels)
        return total if exists is None else total * exists.view(-1, *([1] * (total.dim() - 1)))

    def _one_by_one(self, ys: Sequence[Tensor], exists: Tensor | None, steps: int) -> list[Tensor]:
        terms = []
        for y, pieces in zip(ys, self.terms, strict=True):
            parts = torch.split(y, [piece.channels for piece in pieces], 1)
            terms.append(
                torch.cat(
                    [p.norm(x, exists, steps=steps, repeats=p.repeats) for x, p in zip(parts, pieces, strict=True)], 1
                )
            )
        return terms

    def _trained(
        self, y: Tensor, pieces: tuple[Piece, ...], w: Tensor, b: Tensor, exists: Tensor | None, steps: int
    ) -> Tensor:
        z, mean, var = step_norm(y, w, b, steps, pieces[0].norm.eps)
        count = y.numel() // (steps * y.shape[1])
        counts = [count * piece.repeats for piece in pieces]
        if min(counts) == 1:
            raise ValueError("batch statistics need more than one value per channel")
        _update(pieces, mean, var, [c / (c - 1) for c in counts], exists)
        return z

    def _evaluated(
        self, y: Tensor, pieces: tuple[Piece, ...], w: Tensor, b: Tensor, exists: Tensor | None, steps: int
    ) -> Tensor:
        mean, var = (torch.cat(_buffers(pieces, name)) for name in ("running_mean", "running_var"))
        factor, offset = folding(w, b, mean, var, pieces[0].norm.eps, None)
        around = (1, -1, *([1] * (y.dim() - 2)))
        return torch.addcmul(offset.view(around), y, factor.view(around)).to(y.dtype)


def _hooked(norm: BatchNorm) -> bool:
    return bool(norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks)


def _buffers(pieces: tuple[Piece, ...], name: str) -> list[Tensor]:
    return [getattr(piece.norm, name) for piece in pieces]


@torch.no_grad()
def _update(pieces: tuple[Piece, ...], mean: Tensor, var: Tensor, unbiased: list[float], exists: Tensor | None) -> None:
    """`BatchNorm._update` of all norms of a term, from means and biased variances `[T, C]`."""
    momentum = pieces[0].norm.momentum
    assert momentum is not None
    sizes = [piece.channels for piece in pieces]
    counts = 1 if exists is None else (exists.amax() > 0).long()
    for mean_t, var_t in zip(mean, var, strict=True):
        variances = torch._foreach_mul(torch.split(var_t, sizes), unbiased)
        for name, values in (("running_mean", list(torch.split(mean_t, sizes))), ("running_var", variances)):
            running = _buffers(pieces, name)
            if exists is None:
                torch._foreach_lerp_(running, values, momentum)
            else:
                share = momentum * (exists.amax() > 0).to(mean.dtype)
                change = torch._foreach_sub(values, running)
                torch._foreach_mul_(change, share)
                torch._foreach_add_(running, change)
        torch._foreach_add_(_buffers(pieces, "num_batches_tracked"), counts)
