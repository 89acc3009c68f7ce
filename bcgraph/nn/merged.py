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

from bcgraph.nn.conv import onednn
from bcgraph.nn.hooks import hooked
from bcgraph.nn.modules import BatchNorm
from bcgraph.nn.neuron.neuron import needs_gradient
from bcgraph.nn.neuron.packed_spikes import spike_conv, unpack
from bcgraph.nn.norm import folding, step_norm
from bcgraph.nn.transforms import first_order, traced
from bcgraph.nn.workspace import Workspace, is_last

Run = tuple[int, int, int]
"""(first, count, at): channels `first` to `first + count` of a term, which begin at channel `at` of the sum."""

Runs = tuple[Run, ...]


def stack(*parameters: Tensor) -> Tensor:
    """Parameters one after the other along their first axis."""
    return torch.cat(parameters)


def fold_norms(
    weights: Sequence[Sequence[Tensor]],
    norms: Sequence[Sequence[Tensor]],
    runs: Sequence[Runs],
    channels: int,
    eps: float,
    shapes: Sequence[tuple[int, int, int]],
    workspace: Workspace | None = None,
    number: int = 0,
) -> tuple[Tensor, ...]:
    """The weights of a sum of projections with their norms folded in, one tensor a term, and the bias `[channels]`.

    `weights` are those of each term's convolutions, `[out, in, 1, 1]`. `norms` are scales, shifts, means and variances
    of all terms, one after the other. `shapes` are those of one sample of each operand. With a `workspace`, weights for
    small maps are packed, the first with number `number` of the module; see `bcgraph.nn.conv.folded.fold_norm`.
    """
    scale, shift, mean, var = (torch.cat(list(some)) for some in norms)
    factor, shifted = folding(scale, shift, mean, var, eps, None)
    sizes = [sum(count for _, count, _ in places) for places in runs]
    found = [
        _folded(some, part, shape, workspace, number + index)
        for index, (some, part, shape) in enumerate(zip(weights, torch.split(factor, sizes), shapes, strict=True))
    ]
    flat = [part.view(1, -1, 1, 1) for part in torch.split(shifted, sizes)]
    return (*found, stack_sum(flat, runs, channels).flatten())


# Values of a map from which on a product of matrices that adds to the sum is faster than a packed convolution.
_LARGE = 256


def _folded(
    weights: Sequence[Tensor], factor: Tensor, shape: tuple[int, int, int], workspace: Workspace | None, number: int
) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    one = weights[0]
    # Of weights for single values only the strides tell whether the network is channels-last.
    last = one.shape[1] > 1 and one.stride(3) == one.shape[1]
    if workspace is not None and last and shape[1] * shape[2] < _LARGE and onednn.packs(one):
        like = torch.empty((len(factor), *one.shape[1:]), dtype=one.dtype, device="meta")
        folded = _products(weights, factor, workspace.scratch(like))
        return workspace.weight(number, lambda: onednn.pack_weight(folded, shape, 1, 0, 1, 1))
    if traced() or needs_gradient(factor, *weights):
        return torch.cat(list(weights)) * factor
    return _products(weights, factor, one.new_empty((len(factor), *one.shape[1:])))


def _products(weights: Sequence[Tensor], factor: Tensor, out: Tensor) -> Tensor:
    """Weights side by side along the first axis, times `factor`, in one pass over them."""
    sizes = [len(weight) for weight in weights]
    for weight, part, place in zip(weights, torch.split(factor, sizes), torch.split(out, sizes), strict=True):
        torch.mul(weight, part, out=place)
    return out


def project_sum(
    xs: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor, runs: Sequence[Runs], channels: int
) -> Tensor:
    """The `stack_sum` of the pointwise convolutions of `xs`, each `[N, C_k, H, W]`, and `bias` `[channels]`.

    Weights may be packed.
    """
    if traced() or needs_gradient(*xs, *weights, bias):
        return stack_sum([F.conv2d(x, w) for x, w in zip(xs, weights, strict=True)], runs, channels) + _channel(bias)
    n, _, h, w = xs[0].shape
    total = _channel(bias).expand(n, channels, h, w).contiguous(memory_format=_layout(xs[0]))
    for x, weight, places in zip(xs, weights, runs, strict=True):
        if weight.layout is torch.strided and is_last(x) and is_last(total):
            for first, count, at in places:
                part = weight.narrow(0, first, count).flatten(1)
                _rows(total).narrow(1, at, count).addmm_(_rows(x), part.t())
        else:
            plain = weight.layout is torch.strided
            term = F.conv2d(x, weight) if plain else onednn.convolve_packed(x, weight, None, 1, 0, 1, 1)
            _added(total, [term], [places])
    return total


def _channel(x: Tensor) -> Tensor:
    return x.view(1, -1, 1, 1)


def project(x: Tensor, weight: Tensor, bits: Tensor | None = None) -> Tensor:
    """The pointwise convolution of x `[N, C, H, W]`. `bits` is `bcgraph.nn.neuron.packed_spikes.pack(x)`.

    Channels-last it is a product of matrices: a convolution would first reorder the weight, which for the small maps of
    the last layers takes as long as the product.
    """
    if traced() or not is_last(x):
        return F.conv2d(x, weight) if bits is None else spike_conv(x, bits, weight, None, (1, 1), (0, 0), (1, 1), 1)
    if bits is None or not bits.numel() or not needs_gradient(weight):
        return _images(F.linear(_rows(x), weight.flatten(1)), x.shape)
    result: Tensor = _Project.apply(x, bits, weight)
    return result


class _Project(torch.autograd.Function):
    """The product of spikes and a weight, which keeps the spikes' bits for the weight gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: Tensor, weight: Tensor) -> Tensor:
        ctx.shape = x.shape
        ctx.save_for_backward(bits, weight)
        return _images(F.linear(_rows(x), weight.flatten(1)), x.shape)

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        bits, weight = ctx.saved_tensors
        grad = _rows(gradients[0])
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _images(grad @ weight.flatten(1).to(grad.dtype), ctx.shape)
        if ctx.needs_input_grad[2]:
            x = _rows(unpack(bits, (ctx.shape, True), grad.dtype))
            to_weight = (grad.t() @ x).view(weight.shape)
        return to_x, None, to_weight


def _rows(x: Tensor) -> Tensor:
    """`[N, C, H, W]` as `[N*H*W, C]`, a view where x is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _images(rows: Tensor, shape: torch.Size) -> Tensor:
    """`[N*H*W, C]` as `[N, C, H, W]`, channels-last."""
    n, _, h, w = shape
    return rows.view(n, h, w, -1).permute(0, 3, 1, 2)


def stack_sum(terms: Sequence[Tensor], runs: Sequence[Runs], channels: int) -> Tensor:
    """The sum of `terms`, each `[N, C_k, H, W]`, whose runs of channels go to their places among `channels`.

    Nobody else may read the first of `terms`: without gradients the sum is written over it.
    """
    whole = runs[0] == ((0, channels, 0),)
    if whole and len(terms) == 1:
        return terms[0]
    if traced():
        return _plain_sum(terms, runs, channels)
    if whole and not needs_gradient(*terms):
        return _added(terms[0], terms[1:], runs[1:])
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
        return _added(total, terms[rest:], runs[rest:])

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        return (None, None, *(_gathered(grad, places) for places in ctx.runs))


def _added(total: Tensor, terms: Sequence[Tensor], runs: Sequence[Runs]) -> Tensor:
    """`total`, after each of `terms` was added to it."""
    for term, places in zip(terms, runs, strict=True):
        for first, count, at in places:
            total.narrow(1, at, count).add_(term.narrow(1, first, count))
    return total


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
        if traced() or any(type(n) is not BatchNorm or n.training != training or hooked(n) for n in norms):
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
