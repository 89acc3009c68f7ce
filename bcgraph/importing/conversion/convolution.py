"""Rules of convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from bcgraph.importing.conversion.converter import Converter, ModuleRule, size, without
from bcgraph.importing.layers import RefusedError, View
from bcgraph.importing.record import Ref


def _conv(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    view = c.plain(c.view(x), "a convolution")
    if m.padding_mode != "zeros":
        raise RefusedError(f"padding by `{m.padding_mode}` cannot be said", "padding is by zeros")
    settings = (m.stride, m.padding, m.dilation, m.groups)
    return convolution(c, view, m.weight, m.bias, *settings)


def convolution(
    c: Converter,
    view: View,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    name: str | None = None,
) -> View:
    """A convolution with these weights."""
    kernel, stride, dilation = size(tuple(weight.shape[2:])), size(stride), size(dilation)
    if padding == "valid":
        padding = 0
    elif padding == "same":
        padding = _half(kernel, dilation)
        wide = kernel if isinstance(kernel, tuple) else (kernel,)
        if any((k - 1) % 2 for k in wide):
            raise RefusedError("padding of an even kernel to the same size is not the same on both sides")
    given = {"kernel": kernel, "stride": stride, "padding": size(padding), "dilation": dilation, "groups": groups}
    given = without({**given, "bias": bias is not None}, stride=1, dilation=1, groups=1, bias=False)
    given = without(given, padding=_half(kernel, dilation))
    weights = {"weight": weight.detach()} | ({"bias": bias.detach()} if bias is not None else {})
    shape = c.result()
    return c.add("conv", (view.layer,), shape, view.axes, name, weights, channels=weight.shape[0], **given)


def _half(kernel: Any, dilation: Any) -> Any:
    if isinstance(kernel, tuple) or isinstance(dilation, tuple):
        kernels = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        gaps = dilation if isinstance(dilation, tuple) else (dilation, dilation)
        return size([(k - 1) * d // 2 for k, d in zip(kernels, gaps, strict=True)])
    return (kernel - 1) * dilation // 2


def _functional_conv(c: Converter, x: Any, weight: Any, bias: Any = None, *rest: Any, **named: Any) -> View:
    view = c.plain(c.view(x), "a convolution")
    _constant(weight)
    settings = dict(zip(("stride", "padding", "dilation", "groups"), rest, strict=False)) | named
    return convolution(c, view, weight, bias, **settings, name=holder(c, weight, "conv"))


def _transposed(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    view = c.plain(c.view(x), "a transposed convolution")
    given = {each: size(getattr(m, f"{each}_size" if each == "kernel" else each))
             for each in ("kernel", "stride", "padding", "output_padding")}  # fmt: skip
    if size(m.dilation) != 1 or any(isinstance(v, tuple) for v in given.values()):
        raise RefusedError("a transposed convolution is square and without dilation")
    given = without(
        {**given, "groups": m.groups, "bias": m.bias is not None}, padding=0, output_padding=0, groups=1, bias=False
    )
    weights = {"weight": m.weight.detach()} | ({"bias": m.bias.detach()} if m.bias is not None else {})
    return c.add(
        "conv_transpose", (view.layer,), c.result(), view.axes, None, weights, channels=m.out_channels, **given
    )


def _linear(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    return linear(c, c.view(x), m.weight, m.bias)


def linear(c: Converter, view: View, weight: Tensor, bias: Tensor | None, name: str | None = None) -> View:
    """A linear layer; over the channels of places it is a convolution of one place."""
    weights = {"weight": weight.detach()} | ({"bias": bias.detach()} if bias is not None else {})
    shape = c.shape(view)
    if len(shape) > 1 and len(view.axes) == len(shape) and view.axes.endswith("c"):
        weights["weight"] = weights["weight"].reshape(*weight.shape, *[1] * (len(shape) - 1))
        given: dict[str, Any] = {"kernel": 1} | ({"bias": True} if bias is not None else {})
        after = (weight.shape[0], *shape[1:])
        return c.add("conv", (view.layer,), after, view.axes, name, weights, channels=weight.shape[0], **given)
    view = c.vector(view)
    given = {} if bias is not None else {"bias": False}
    return c.add("linear", (view.layer,), (weight.shape[0],), "c", name, weights, features=weight.shape[0], **given)


def _functional_linear(c: Converter, x: Any, weight: Any, bias: Any = None) -> View:
    _constant(weight)
    return linear(c, c.view(x), weight, bias, holder(c, weight, "linear"))


def _constant(weight: Any) -> None:
    if isinstance(weight, Ref):
        raise RefusedError("weights that depend on the input cannot be said")


def holder(c: Converter, weight: Tensor | None, kind: str) -> str:
    """A name for a layer whose function is called with the weights of the module that runs."""
    name = c.owners.get(id(weight), "")
    held = name.removeprefix(f"{c.call.path}." if c.call.path else "").split(".")[:-1]
    return "_".join(held) if held else kind


MODULES: Mapping[type, ModuleRule] = {
    nn.Conv2d: _conv,
    nn.Conv1d: _conv,
    nn.ConvTranspose2d: _transposed,
    nn.ConvTranspose1d: _transposed,
    nn.Linear: _linear,
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("conv2d", "conv1d"), _functional_conv),
    "linear": _functional_linear,
}
