"""Convolutions for inference: batch norms folded into their weights, weights packed, and neurons on their results.

Shapes: x is `[N, C, H, W]`, or `[T*N, C, H, W]` for all steps; a weight `[out, in/groups, k, k]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bcgraph.nn import lif_kernels
from bcgraph.nn.conv import onednn
from bcgraph.nn.lif import NO_SLOTS, Slots, lif, lif_last, lif_steps, needs_gradient
from bcgraph.nn.norm import folding, split
from bcgraph.nn.transforms import traced
from bcgraph.nn.workspace import Workspace, empty, is_last

Settings = tuple[int, int, int, int]
"""Stride, padding, dilation and groups."""

Constants = tuple[float, float, float, str, bool]
"""Of a neuron: decay, threshold, width of the surrogate, reset, and whether the reset is cut from the gradient."""


def fold_norm(
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    settings: Settings,
    shape: tuple[int, int, int],
    workspace: Workspace | None = None,
    number: int = 0,
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution `[out, in, k, k]` with the following batch norm folded in, for inference.

    `shape` is that of one sample of x. With a `workspace` the weight, number `number` of the module, is packed in the
    order that the CPU's kernels read. Otherwise each convolution reorders it, which takes a thirtieth of the time of
    ResNet-18 at T = 4.
    """
    factor, shifted = folding(scale, shift, mean, var, eps, bias)
    factor = factor.view(-1, 1, 1, 1)
    if workspace is None or not (is_last(weight) and onednn.packs(weight)):
        return weight * factor, shifted
    folded = torch.mul(weight, factor, out=workspace.scratch(weight))
    return workspace.weight(number, lambda: onednn.pack_weight(folded, shape, *settings)), shifted


def conv(x: Tensor, weight: Tensor, bias: Tensor, settings: Settings) -> Tensor:
    """The convolution of x with a weight that may be packed."""
    if weight.layout is torch.strided:
        stride, padding, dilation, groups = settings
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return onednn.convolve_packed(x, weight, bias, *settings)


def conv_lif(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    settings: Settings,
    others: Sequence[Tensor],
    membrane: Tensor | None,
    neuron: Constants,
    workspace: Workspace | None = None,
    slots: Slots = NO_SLOTS,
) -> tuple[Tensor, Tensor]:
    """`lif` on the currents `conv(x)` and `others`, a few samples at a time, so that currents stay in the cache."""
    if _whole(x, weight, bias, *others, membrane):
        currents = (conv(x, weight, bias, settings), *others)
        return lif(currents, membrane, *neuron, workspace, slots)
    s, v = _by_samples(x, weight, bias, settings, others, membrane, neuron, workspace, slots, True)
    assert v is not None
    return s, v


def conv_lif_last(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    settings: Settings,
    others: Sequence[Tensor],
    membrane: Tensor | None,
    neuron: Constants,
    workspace: Workspace | None = None,
    slots: Slots = NO_SLOTS,
) -> Tensor:
    """`conv_lif` at the last step, without the membrane, which no later step reads."""
    if _whole(x, weight, bias, *others, membrane):
        currents = (conv(x, weight, bias, settings), *others)
        return lif_last(currents, membrane, *neuron, workspace, slots)
    return _by_samples(x, weight, bias, settings, others, membrane, neuron, workspace, slots, False)[0]


def conv_lif_steps(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    settings: Settings,
    others: Sequence[Tensor],
    steps: int,
    repeated: bool,
    neuron: Constants,
    workspace: Workspace | None = None,
    slots: Slots = NO_SLOTS,
) -> Tensor:
    """`lif_steps` on the currents `conv(x)` and `others`, all steps of some samples before the next samples."""
    if _whole(x, weight, bias, *others) or repeated:
        currents = (conv(x, weight, bias, settings), *others)
        return lif_steps(currents, steps, repeated, *neuron, workspace, slots)
    tau, threshold, _, mode, _ = neuron
    xs, terms = split(x, steps), [split(o, steps) for o in others]
    out: tuple[Tensor, ...] = ()
    for k, first in _samples(xs[0], weight, bias, settings):
        if not out:
            s = _results(first, steps * len(xs[0]), workspace, slots[0])
            out = split(s, steps)
        now, v = first, torch.empty_like(first)
        for t in range(steps):
            if t > 0:
                now = conv(xs[t][k], weight, bias, settings)
            for term in terms:
                now.add_(term[t][k])
            if t > 0:
                now.add_(v, alpha=tau)
            lif_kernels.fire_and_reset(now, out[t][k], v if t < steps - 1 else None, threshold, mode)
    return s


def _whole(x: Tensor, *others: Tensor | None) -> bool:
    """Whether the convolution runs on its own: off the CPU, for autograd, tracers and transforms, on an empty batch."""
    return x.device.type != "cpu" or traced() or not len(x) or needs_gradient(x, *others)


def _by_samples(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    settings: Settings,
    others: Sequence[Tensor],
    membrane: Tensor | None,
    neuron: Constants,
    workspace: Workspace | None,
    slots: Slots,
    membrane_wanted: bool,
) -> tuple[Tensor, Tensor | None]:
    tau, threshold, _, mode, _ = neuron
    s: Tensor | None = None
    v: Tensor | None = None
    for k, now in _samples(x, weight, bias, settings):
        if s is None:
            s = _results(now, len(x), workspace, slots[0])
            v = _results(now, len(x), workspace, slots[1]) if membrane_wanted else None
        for other in others:
            now.add_(other[k])
        if membrane is not None:
            now.add_(membrane[k], alpha=tau)
        lif_kernels.fire_and_reset(now, s[k], None if v is None else v[k], threshold, mode)
    assert s is not None
    return s, v


def _samples(x: Tensor, weight: Tensor, bias: Tensor, settings: Settings) -> Iterator[tuple[slice, Tensor]]:
    """The convolution of x in slices of the batch, each of about `lif_kernels.PIECE` results."""
    stride, padding, dilation, _ = settings
    area = [(size + 2 * padding - dilation * (weight.shape[-1] - 1) - 1) // stride + 1 for size in x.shape[-2:]]
    rows = max(1, lif_kernels.PIECE // (weight.shape[0] * area[0] * area[1]))
    for k in range(0, len(x), rows):
        here = slice(k, k + rows)
        yield here, conv(x[here], weight, bias, settings)


def _results(like: Tensor, samples: int, workspace: Workspace | None, slot: int | None) -> Tensor:
    return empty(workspace, slot, (samples, *like.shape[1:]), is_last(like), like.dtype, like.device)
