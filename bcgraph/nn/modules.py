"""Modules that own parameters, and their initialization by key.

A parameter's initial value depends on the seed and on its own name alone, so that all candidates of a search begin with
the same weights wherever they have the same layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bcgraph import schema
from bcgraph.equations import neuron as equations
from bcgraph.errors import CompileError
from bcgraph.keys import derive
from bcgraph.nn import layers, registered, tree
from bcgraph.nn.conv.input_gradient import conv2d_frozen_weight
from bcgraph.nn.conv.int16 import Int16Weight
from bcgraph.nn.conv.linear import Linear
from bcgraph.nn.conv.winograd import TiledWeight, pays
from bcgraph.nn.determinism import forked
from bcgraph.nn.hooks import Layer
from bcgraph.nn.neuron.packed_spikes import spike_conv
from bcgraph.nn.norm import folding, step_norm
from bcgraph.nn.transforms import transformed
from bcgraph.shapes import Shape

# Type and device of new parameters, whatever torch's defaults are: a seed draws the same weights everywhere.
_NEW: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


class Conv(Layer, nn.Conv2d):
    """torch's convolution. Given the `bits` of its input spikes, it keeps those for its backward pass.

    Three attributes apply where the weights need no gradient. `input_gradient` is the type of the input's gradient.
    With `int16` the weights are rounded to 16 bits (see `bcgraph.nn.conv.int16`). With `tiled` Winograd's convolution
    runs where it is faster (see `bcgraph.nn.conv.winograd`). For the last two the weights must not change.
    """

    input_gradient: torch.dtype | None = None
    int16 = False
    _int16: Int16Weight | None = None
    tiled = False
    _tiled: TiledWeight | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Copies compute packed and transformed weights from the weight itself.
        return {name: value for name, value in self.__dict__.items() if name not in ("_int16", "_tiled")}

    def forward(self, x: Tensor, bits: Tensor | None = None) -> Tensor:
        """Convolve `[N, C, H, W]`. `bits` is `bcgraph.nn.neuron.packed_spikes.pack(x)`."""
        padding = self.padding
        assert not isinstance(padding, str)
        settings = (self.stride, padding, self.dilation, self.groups)
        if not self.weight.requires_grad:
            size = (x.shape[2], x.shape[3])
            if self.int16 and self._int16 is None:
                self._int16 = Int16Weight.of(self.weight, settings, size, bias=self.bias)
            if self.tiled and self._tiled is None and pays(self.weight, size, settings):
                self._tiled = TiledWeight(self.weight)
            gradient, int16, tiled = self.input_gradient, self._int16, self._tiled
            return conv2d_frozen_weight(
                x, self.weight, self.bias, *settings, gradient=gradient, int16=int16, tiled=tiled
            )
        if bits is None:
            return super().forward(x)
        return spike_conv(x, bits, self.weight, self.bias, *settings)


class BatchNorm(Layer, _BatchNorm):
    """Batch normalization of `[N, C, H, W]` or `[N, C]`, with torch's names and running statistics."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  (torch's name)
        pass

    def forward(
        self, x: Tensor, exists: Tensor | None = None, *, steps: int = 1, repeats: int = 1, updates: int = 1
    ) -> Tensor:
        """Normalize one step, `[N, C, ...]`, or `steps` of them, `[T*N, C, ...]`, each by its own statistics.

        `exists`, one number a sample `[N]`, is 0 where `x` comes from before the first step. There the result is
        exactly zero, and where it is 0 for all samples the statistics stay. `repeats` counts the copies of each value
        after a later resize. `updates` counts the equal steps that `x` stands for; with 0 running statistics stay.
        """
        if not self.training:
            y = super().forward(x)
        elif not transformed() and exists is None and steps == repeats == updates == 1:
            return super().forward(x)
        else:
            y, mean, var = step_norm(x, self.weight, self.bias, steps, self.eps)
            count = repeats * x.numel() // (steps * x.shape[1])
            if count == 1:
                raise ValueError("batch statistics need more than one value per channel")
            if updates:
                with _statistics_may_change():
                    self._update(mean, var * (count / (count - 1)), updates, exists)
        return y if exists is None else y * exists.view(-1, *([1] * (x.dim() - 1)))

    def folded(self, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """`bcgraph.nn.norm.folding` of this norm after a convolution with `bias`."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return folding(self.weight, self.bias, self.running_mean, self.running_var, self.eps, bias)

    @torch.no_grad()
    def _update(self, mean: Tensor, var: Tensor, updates: int, exists: Tensor | None) -> None:
        """Update the running statistics with means and unbiased variances `[T, C]`, in step order.

        `updates` equal updates are one with the weight `1 - (1 - momentum)**updates`.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        share = 1.0 - (1.0 - self.momentum) ** updates
        counts = mean.new_ones(()) if exists is None else (exists.amax() > 0).to(mean.dtype)
        for mean_t, var_t in zip(mean, var, strict=True):
            self.running_mean += counts * share * (mean_t - self.running_mean)
            self.running_var += counts * share * (var_t - self.running_var)
        self.num_batches_tracked += (counts * len(mean) * updates).to(self.num_batches_tracked.dtype)


class BatchNormPerStep(Layer):
    """Batch normalization that tells steps apart, with one affine part for all.

    Its running statistics are `[T, C]`, of each step on its own, or with `shared` `[C]`. With `scaled` the result of
    step t is multiplied by a trained `p[t]` (TEBN, Duan et al. 2022).
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, features: int, steps: int, eps: float, momentum: float, *, shared: bool = False, scaled: bool = False
    ) -> None:
        super().__init__()
        self.steps = steps
        rows = () if shared else (steps,)
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(features, **_NEW))
        self.bias = nn.Parameter(torch.zeros(features, **_NEW))
        self.register_buffer("running_mean", torch.zeros(*rows, features, **_NEW))
        self.register_buffer("running_var", torch.ones(*rows, features, **_NEW))
        self.register_buffer("num_batches_tracked", torch.zeros(rows, dtype=torch.long, device="cpu"))
        self.p = nn.Parameter(torch.ones(steps, **_NEW)) if scaled else None

    def row(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The running mean and variance `[C]` of a step, and how many batches they have seen: views."""
        if self.running_mean.dim() == 1:
            return self.running_mean, self.running_var, self.num_batches_tracked
        return self.running_mean[step], self.running_var[step], self.num_batches_tracked[step]

    def affine(self, step: int) -> tuple[Tensor, Tensor]:
        """What a normalized step is multiplied by `[C]`, and what is then added `[C]`."""
        if self.p is None:
            return self.weight, self.bias
        return self.weight * self.p[step], self.bias * self.p[step]

    def forward(self, x: Tensor, step: int | Tensor, exists: Tensor | None = None) -> Tensor:
        """Normalize step number `step`, `[N, C, H, W]` or `[N, C]`.

        Where one step runs after the other, `step` is the number of each sample `[N]`, and `exists` as for `BatchNorm`.
        From the last step on it stays the last.
        """
        if isinstance(step, Tensor):
            return self._counted(x, step, exists)
        mean, var, count = self.row(step)
        if self.training:
            with _statistics_may_change():
                count += 1
        return F.batch_norm(x, mean, var, *self.affine(step), self.training, self.momentum, self.eps)

    def _counted(self, x: Tensor, step: Tensor, exists: Tensor | None) -> Tensor:
        row = step.detach().long().clamp(max=self.steps - 1)
        axes = [1] * (x.dim() - 2)
        if self.training:
            y, mean, var = step_norm(x, self.weight, self.bias, 1, self.eps)
            count = x.numel() // x.shape[1]
            if count == 1:
                raise ValueError("batch statistics need more than one value per channel")
            with _statistics_may_change(), torch.no_grad():
                self._update(row, mean[0], var[0] * (count / (count - 1)), exists)
        elif self.running_mean.dim() == 1:
            y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        else:
            scale = self.weight * (self.running_var[row] + self.eps).rsqrt()
            shift = self.bias - self.running_mean[row] * scale
            y = x * scale.view(*scale.shape, *axes) + shift.view(*shift.shape, *axes)
        if self.p is not None:
            y = y * self.p[row].view(-1, 1, *axes)
        return y if exists is None else y * exists.view(-1, 1, *axes)

    def _update(self, row: Tensor, mean: Tensor, var: Tensor, exists: Tensor | None) -> None:
        """Update the running statistics, of the step that all samples are in where each step has its own."""
        counts = mean.new_ones(()) if exists is None else (exists.amax() > 0).to(mean.dtype)
        if self.running_mean.dim() == 1:
            self.running_mean += counts * self.momentum * (mean - self.running_mean)
            self.running_var += counts * self.momentum * (var - self.running_var)
            self.num_batches_tracked += counts.to(self.num_batches_tracked.dtype)
            return
        if bool((row != row[0]).any()):
            raise ValueError("batch statistics for each step need samples that are all in the same step")
        counts = counts * F.one_hot(row[0], self.steps).to(mean.dtype)
        share = self.momentum * counts[:, None]
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (var - self.running_var)
        self.num_batches_tracked += counts.to(self.num_batches_tracked.dtype)


@contextmanager
def _statistics_may_change() -> Iterator[None]:
    """Say what to do where a transform of `torch.func` does not let a forward pass write to buffers (E074)."""
    try:
        yield
    except RuntimeError as error:
        if not transformed():
            raise
        raise CompileError(
            "E074",
            "running statistics that a transform of torch.func does not know cannot be updated inside it",
            hint="call `model.eval()` first, or give torch.func.functional_call the buffers with the parameters",
        ) from error


def _bare(kind: Callable[..., nn.Module], *args: Any) -> nn.Module:
    """A module whose parameters are allocated but not drawn: `initialize` draws them by key.

    It is what `torch.nn.utils.skip_init` returns, which imports sympy for it: 0.4 s of a command's time.
    """
    module = kind(*args, dtype=torch.float32, device="meta")
    for name, parameter in module.named_parameters(recurse=False):
        module.register_parameter(name, nn.Parameter(torch.empty(parameter.shape, **_NEW)))
    return module


class Conv1d(Layer, nn.Conv1d):
    """torch's convolution of signals `[N, C, L]`."""


def _conv(layer: schema.Conv, given: Shape, steps: int) -> nn.Module:
    return _bare(
        Conv1d if len(given) == 2 else Conv,
        given[0],
        layer.channels,
        layer.kernel,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias,
    )


def _linear(layer: schema.Linear, given: Shape, steps: int) -> nn.Module:
    return _bare(Linear, given[0], layer.features, layer.bias)


def _norm(layer: schema.BatchNorm, given: Shape, steps: int) -> nn.Module:
    norm = layer.norm
    if norm.by_step:
        own = {"shared": norm.statistics == "shared", "scaled": norm.scales == "per_step"}
        return BatchNormPerStep(given[0], steps, norm.eps, norm.momentum, **own)
    return BatchNorm(given[0], norm.eps, norm.momentum, **_NEW)


def _dropout(layer: schema.Dropout, given: Shape, steps: int) -> nn.Module:
    return nn.Dropout(layer.probability)


class Learned(Layer):
    """The trained parameters of a layer of neurons: scalars, or one value a channel `[C]`."""

    def __init__(self, parameters: Iterable[equations.Learned], channels: int) -> None:
        super().__init__()
        for each in parameters:
            shape = (channels,) if each.channels else ()
            self.register_parameter(each.name, nn.Parameter(torch.full(shape, each.initial, **_NEW)))


def _neuron(layer: schema.NeuronLayer, given: Shape, steps: int) -> nn.Module:
    return Learned(layer.neuron.equations.learned, given[0])


def standard(layer: schema.Standard, given: Shape, key: int) -> nn.Module:
    """The module of a layer that `bcgraph.layers` declares, its weights drawn by `key`."""
    with forked(key), torch.device("cpu"):
        module = layers.standard(layer.layer, given, dict(layer.arguments))
    return module.to(dtype=torch.float32)


_MODULES: dict[type, Callable[[Any, Shape, int], nn.Module]] = {
    schema.Conv: _conv,
    schema.Linear: _linear,
    schema.BatchNorm: _norm,
    schema.Dropout: _dropout,
    schema.NeuronLayer: _neuron,
}


def build(layers: Iterable[tuple[str, schema.LayerNode, Shape]], steps: int, seed: int) -> nn.Module:
    """A tree of modules that own the parameters of `layers`, each a name, a layer and the shape that reaches it.

    The names in the state dict are the layers' names, as in torchvision.
    """
    root = tree.Tree()
    for name, layer, given in layers:
        if isinstance(layer, schema.Registered):
            module = registered.build(layer, given, derive(seed, "init", name))
        elif isinstance(layer, schema.Standard):
            module = standard(layer, given, derive(seed, "init", name))
        else:
            module = _MODULES[type(layer)](layer, given, steps)
            initialize(module, name, seed)
        if isinstance(layer, schema.BatchNorm):
            with torch.no_grad():
                module.get_parameter("weight").fill_(layer.norm.gain)
        tree.place(root, name, module)
    return root


@torch.no_grad()
def initialize(module: nn.Module, name: str, seed: int) -> None:
    """Draw the weights of one convolution or linear layer, uniform in +-1/sqrt(fan in); norms have a bias of 0."""
    if not isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear):
        return
    bound = 1.0 / math.sqrt(module.weight[0].numel())
    for part, parameter in module.named_parameters():
        generator = torch.Generator("cpu").manual_seed(derive(seed, "init", f"{name}.{part}"))
        parameter.uniform_(-bound, bound, generator=generator)
