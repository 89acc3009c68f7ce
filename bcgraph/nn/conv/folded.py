"""Convolutions for inference: batch norms folded into their weights, weights packed, and neurons on their results.

Shapes: x is `[N, C, H, W]`, or `[T*N, C, H, W]` for all steps; a weight `[out, in/groups, k, k]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bcgraph.nn.conv import int16, onednn
from bcgraph.nn.conv.int16 import Int16Weight, Packed
from bcgraph.nn.functional import resize
from bcgraph.nn.neuron.kernel import PIECE, Runner, Scratch, run_block
from bcgraph.nn.neuron.neuron import Neuron, NeuronSteps, Slots, needs_gradient, results
from bcgraph.nn.norm import folding, split
from bcgraph.nn.transforms import traced
from bcgraph.nn.workspace import Workspace, is_last

Sizes = int | tuple[int, int]
Settings = tuple[Sizes, Sizes, Sizes, int]
"""Stride, padding, dilation and groups."""


def fold_norm(
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    settings: Settings = (1, 0, 1, 1),
    shape: tuple[int, int, int] = (1, 1, 1),
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


def fold_norm_int16(
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
) -> tuple[Tensor | Int16Weight, Tensor]:
    """`fold_norm` of a convolution of spikes, with its weight rounded to 16 bits before the norm's scale.

    Weights whose sums need more than 32 bits, and those in groups, are not rounded. With a `workspace` and kernels for
    them the weight is integers (see `bcgraph.nn.conv.int16`), else their values.
    """
    if not int16.fits(weight, settings[-1]):
        return fold_norm(weight, bias, scale, shift, mean, var, eps, settings, shape, workspace, number)
    factor, shifted = folding(scale, shift, mean, var, eps, bias)
    if workspace is None or not int16.runs(weight):
        return int16.rounded(weight) * factor.view(-1, 1, 1, 1), shifted
    stride, padding, dilation, groups = settings
    places = tuple(tuple(onednn.two(size)) for size in (stride, padding, dilation))
    given: int16.Settings = (places[0], places[1], places[2], groups)
    kept = workspace.held.integers
    kept[number] = Packed.of(weight, given, shape[1:], kept.get(number))
    whole: Packed = kept[number]
    return whole.times(factor, shifted), shifted


def conv(x: Tensor, weight: Tensor | Int16Weight, bias: Tensor, settings: Settings) -> Tensor:
    """The convolution of x with a weight that may be packed; with one of 16 bits x are spikes."""
    if isinstance(weight, Int16Weight):
        return weight(x)
    if weight.layout is torch.strided:
        stride, padding, dilation, groups = settings
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return onednn.convolve_packed(x, weight, bias, *settings)


class ConvNeuron(Neuron):
    """A convolution and a neuron on its result, a few samples at a time, so that currents stay in the cache."""

    def __call__(  # type: ignore[override]
        self,
        x: Tensor,
        weight: Tensor | Int16Weight,
        bias: Tensor,
        settings: Settings,
        others: Sequence[Tensor],
        states: Sequence[Tensor],
        learned: Sequence[Tensor],
        workspace: Workspace | None = None,
        slots: Slots = (),
    ) -> tuple[Tensor, ...]:
        """One step on the currents `conv(x)` and `others`, of which those of smaller maps are enlarged."""
        if _whole(x, weight, bias, *others, *states, *learned):
            currents = (conv(x, weight, bias, settings), *others)
            return super().__call__(currents, states, learned, workspace, slots)
        kernel = self.kernel
        runner = Runner(kernel.forward_over)
        given: list[Tensor] = []
        uniforms: list[Tensor] = []
        for k, now in _samples(x, weight, bias, settings):
            if not given:
                given = results(now, len(x), workspace, slots, len(kernel.after))
                uniforms = kernel.uniforms(learned, now)
            for other in others:
                part = other[k]
                now.add_(part if part.shape == now.shape else resize(part, *now.shape[-2:]))
            runner.run([now, *(v[k] for v in states), *uniforms, *(v[k] for v in given)], now)
        return tuple(given)


class ConvNeuronSteps(NeuronSteps):
    """A convolution and a neuron on its results, all steps of some samples before the next samples."""

    def __call__(  # type: ignore[override]
        self,
        x: Tensor,
        weight: Tensor | Int16Weight,
        bias: Tensor,
        settings: Settings,
        others: Sequence[Tensor],
        learned: Sequence[Tensor],
        steps: int,
        repeated: bool,
        workspace: Workspace | None = None,
        slots: Slots = (),
    ) -> Tensor:
        """All steps on the currents `conv(x)` and `others`."""
        if _whole(x, weight, bias, *others, *learned) or repeated:
            currents = (conv(x, weight, bias, settings), *others)
            return super().__call__(currents, learned, steps, repeated, workspace, slots)
        kernels = self.kernels(steps)
        runners = {kernel: Runner(kernel.forward_over) for kernel in kernels}
        memory = Scratch(lambda like: [torch.empty_like(like) for _ in kernels[0].after[1:]])
        xs, terms = split(x, steps), [split(o, steps) for o in others]
        out: tuple[Tensor, ...] = ()
        for k, first in _samples(xs[0], weight, bias, settings):
            if not out:
                (s,) = results(first, steps * len(xs[0]), workspace, slots, 1)
                out = split(s, steps)
                uniforms = dict(zip(self.kernel.uniform, self.kernel.uniforms(learned, first), strict=True))
            arriving = _currents(k, first, xs, terms, weight, bias, settings)
            run_block(kernels, runners, arriving, uniforms, [o[k] for o in out], [memory.of(first)])
        return s


def _currents(
    k: slice,
    first: Tensor,
    xs: Sequence[Tensor],
    terms: Sequence[Sequence[Tensor]],
    weight: Tensor | Int16Weight,
    bias: Tensor,
    settings: Settings,
) -> Iterator[Tensor]:
    """The currents of some samples, step by step: of the first step the convolution is there already."""
    for t, x in enumerate(xs):
        now = first if t == 0 else conv(x[k], weight, bias, settings)
        for term in terms:
            now.add_(term[t][k])
        yield now


def _whole(x: Tensor, *others: Tensor | Int16Weight | None) -> bool:
    """Whether the convolution runs on its own: off the CPU, for autograd, tracers and transforms, on an empty batch.

    Under autocast too, where its result has another type than the membranes.
    """
    tensors = (o for o in others if not isinstance(o, Int16Weight))
    apart = x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or traced()
    return apart or not len(x) or needs_gradient(x, *tensors)


def _samples(
    x: Tensor, weight: Tensor | Int16Weight, bias: Tensor, settings: Settings
) -> Iterator[tuple[slice, Tensor]]:
    """The convolution of x in slices of the batch, each of about `PIECE` results."""
    stride, padding, dilation, _ = settings
    each = zip(
        x.shape[-2:], weight.shape[-2:], *(onednn.two(size) for size in (stride, padding, dilation)), strict=True
    )
    area = [(size + 2 * pad - gap * (taps - 1) - 1) // step + 1 for size, taps, step, pad, gap in each]
    rows = max(1, PIECE // (weight.shape[0] * area[0] * area[1]))
    for k in range(0, len(x), rows):
        here = slice(k, k + rows)
        yield here, conv(x[here], weight, bias, settings)
