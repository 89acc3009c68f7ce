"""Layers that change the places of an image or a signal, or the order and number of channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from bcgraph import lazy
from bcgraph.layers.declaration import Shape, Standard, at_least, divides, places

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = lazy.Module("torch")
    nn = lazy.Module("torch.nn")


# --- Transposed convolution -------------------------------------------------------------------------------


def _transposed(
    given: Shape,
    channels: int,
    kernel: int = 2,
    stride: int = 2,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
    bias: bool = False,
) -> Shape:
    for name, value in (("channels", channels), ("kernel", kernel), ("stride", stride), ("groups", groups)):
        at_least(name, value, 1)
    at_least("padding", padding, 0)
    at_least("output_padding", output_padding, 0)
    if len(given) == 1:
        raise ValueError("a transposed convolution needs places, and a vector has none")
    if output_padding >= stride:
        raise ValueError(f"`output_padding` of {output_padding} is not below the stride of {stride}")
    divides(given[0], groups)
    divides(channels, groups)
    after = tuple((size - 1) * stride - 2 * padding + kernel + output_padding for size in given[1:])
    if min(after) < 1:
        raise ValueError(f"nothing is left of {'x'.join(map(str, given[1:]))} with padding {padding}")
    return (channels, *after)


def _transposed_module(
    given: Shape,
    channels: int,
    kernel: int,
    stride: int,
    padding: int,
    output_padding: int,
    groups: int,
    bias: bool,
) -> nn.Module:
    kind = nn.ConvTranspose2d if len(given) == 3 else nn.ConvTranspose1d
    return kind(given[0], channels, kernel, stride, padding, output_padding, groups, bias)


def _transposed_weights(given: Shape, channels: int, kernel: int = 2, groups: int = 1, **_: Any) -> int:
    return given[0] * (channels // groups) * math.prod([kernel] * (len(given) - 1))


def _transposed_parameters(given: Shape, channels: int, bias: bool = False, **rest: Any) -> int:
    return _transposed_weights(given, channels, **rest) + (channels if bias else 0)


def _transposed_operations(given: Shape, channels: int, **rest: Any) -> int:
    return _transposed_weights(given, channels, **rest) * places(given)


def _unless_biased(*, bias: bool = False, **_: Any) -> Literal["zero", "keep"]:
    return "keep" if bias else "zero"


def _transposed_onnx(
    build: Any,
    x: Any,
    given: Shape,
    channels: int,
    kernel: int,
    stride: int,
    padding: int,
    output_padding: int,
    groups: int,
    bias: bool,
) -> Any:
    axes = len(given) - 1
    return build.op(
        "ConvTranspose",
        x,
        build.weight("weight"),
        *([build.weight("bias")] if bias else []),
        kernel_shape=[kernel] * axes,
        strides=[stride] * axes,
        pads=[padding] * 2 * axes,
        output_padding=[output_padding] * axes,
        group=groups,
    )


def _transposed_python(
    x: str,
    weight: Any,
    given: Shape,
    channels: int,
    kernel: int,
    stride: int,
    padding: int,
    output_padding: int,
    groups: int,
    bias: bool,
) -> str:
    shift = weight("bias") if bias else "None"
    settings = f"{stride}, {padding}, {output_padding}, {groups}"
    return f"F.conv_transpose{len(given) - 1}d({x}, {weight('weight')}, {shift}, {settings})"


# --- Upsampling -------------------------------------------------------------------------------------------


def _upsample(given: Shape, factor: int = 2) -> Shape:
    at_least("factor", factor, 1)
    if len(given) == 1:
        raise ValueError("upsampling needs places, and a vector has none")
    return (given[0], *(size * factor for size in given[1:]))


def _upsampled(x: Tensor, weight: Any, given: Shape, factor: int) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=float(factor), mode="nearest")


def _upsample_onnx(build: Any, x: Any, given: Shape, factor: int) -> Any:
    scales = build.floats(1.0, 1.0, *[float(factor)] * (len(given) - 1))
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return build.op("Resize", x, None, scales, **nearest)


def _upsample_python(x: str, weight: Any, given: Shape, factor: int) -> str:
    return f'F.interpolate({x}, scale_factor={factor}, mode="nearest")'


# --- Padding ----------------------------------------------------------------------------------------------


def _pad(given: Shape, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0) -> Shape:
    for name, value in (("left", left), ("right", right), ("top", top), ("bottom", bottom)):
        at_least(name, value, 0)
    if len(given) == 1:
        raise ValueError("padding needs places, and a vector has none")
    if len(given) == 2 and (top or bottom):
        raise ValueError("a signal has no top and no bottom")
    return (given[0], *(size + top + bottom for size in given[1:-1]), given[-1] + left + right)


def _padded(x: Tensor, weight: Any, given: Shape, left: int, right: int, top: int, bottom: int) -> Tensor:
    return nn.functional.pad(x, (left, right, top, bottom)[: 2 * (len(given) - 1)])


def _pad_onnx(build: Any, x: Any, given: Shape, left: int, right: int, top: int, bottom: int) -> Any:
    before, after = ((top, left), (bottom, right)) if len(given) == 3 else ((left,), (right,))
    # With its axes named, onnxruntime does not draw it into a convolution, which breaks graphs that hold it twice.
    axes = build.integers(*range(2, len(given) + 1))
    return build.op("Pad", x, build.integers(*before, *after), None, axes, mode="constant")


def _pad_python(x: str, weight: Any, given: Shape, left: int, right: int, top: int, bottom: int) -> str:
    return f"F.pad({x}, ({left}, {right}, {top}, {bottom}))" if len(given) == 3 else f"F.pad({x}, ({left}, {right}))"


# --- Tokens: the places of an image in a row --------------------------------------------------------------


def _tokens(given: Shape) -> Shape:
    if len(given) != 3:
        raise ValueError("it takes the places of an image, [C, H, W], in a row")
    return (given[0], places(given))


# --- Channels ---------------------------------------------------------------------------------------------


def _select(given: Shape, first: int, count: int) -> Shape:
    at_least("first", first, 0)
    at_least("count", count, 1)
    if first + count > given[0]:
        raise ValueError(f"there are no {count} channels from number {first} among {given[0]}")
    return (count, *given[1:])


def _shuffle(given: Shape, groups: int) -> Shape:
    divides(given[0], groups)
    return given


def _shuffle_onnx(build: Any, x: Any, given: Shape, groups: int) -> Any:
    parts = build.op("Reshape", x, build.integers(0, groups, given[0] // groups, -1))
    turned = build.op("Transpose", parts, perm=[0, 2, 1, 3])
    return build.op("Reshape", turned, build.integers(0, *given))


# --- Sums -------------------------------------------------------------------------------------------------


def _channel_sum(given: Shape, groups: int = 1) -> Shape:
    divides(given[0], groups)
    return (groups, *given[1:])


def _channel_sum_onnx(build: Any, x: Any, given: Shape, groups: int) -> Any:
    parts = build.op("Reshape", x, build.integers(0, groups, given[0] // groups, *given[1:]))
    return build.op("ReduceSum", parts, build.integers(2), keepdims=0)


def _place_sum(given: Shape) -> Shape:
    if len(given) == 1:
        raise ValueError("a vector has no places to add up")
    return (given[0], *[1] * (len(given) - 1))


LAYERS: Mapping[str, Standard] = {
    "conv_transpose": Standard(
        _transposed,
        parameters=_transposed_parameters,
        operations=_transposed_operations,
        zero=_unless_biased,
        module=_transposed_module,
        emitters={"onnx": _transposed_onnx, "python": _transposed_python},
    ),
    "upsample": Standard(
        _upsample,
        _upsampled,
        keeps_spikes=True,
        emitters={"onnx": _upsample_onnx, "python": _upsample_python},
    ),
    "pad": Standard(
        _pad,
        _padded,
        keeps_spikes=True,
        emitters={"onnx": _pad_onnx, "python": _pad_python},
    ),
    "tokens": Standard(
        _tokens,
        lambda x, weight, given: x.flatten(2),
        keeps_spikes=True,
        emitters={
            "onnx": lambda build, x, given: build.op("Reshape", x, build.integers(0, *_tokens(given))),
            "python": lambda x, weight, given: f"torch.flatten({x}, 2)",
        },
    ),
    "select": Standard(
        _select,
        lambda x, weight, given, first, count: x.narrow(1, first, count),
        keeps_spikes=True,
        emitters={
            "onnx": lambda build, x, given, first, count: build.op(
                "Slice", x, build.integers(first), build.integers(first + count), build.integers(1)
            ),
            "python": lambda x, weight, given, first, count: f"{x}[:, {first}:{first + count}]",
        },
    ),
    "shuffle": Standard(
        _shuffle,
        lambda x, weight, given, groups: torch.unflatten(x, 1, (groups, -1)).transpose(1, 2).flatten(1, 2),
        keeps_spikes=True,
        emitters={
            "onnx": _shuffle_onnx,
            "python": lambda x, weight, given, groups: (
                f"{x}.unflatten(1, ({groups}, -1)).transpose(1, 2).flatten(1, 2)"
            ),
        },
    ),
    "channel_sum": Standard(
        _channel_sum,
        lambda x, weight, given, groups: torch.unflatten(x, 1, (groups, -1)).sum(2),
        emitters={
            "onnx": _channel_sum_onnx,
            "python": lambda x, weight, given, groups: f"{x}.unflatten(1, ({groups}, -1)).sum(2)",
        },
    ),
    "place_sum": Standard(
        _place_sum,
        lambda x, weight, given: x.sum(tuple(range(2, x.dim())), keepdim=True),
        emitters={
            "onnx": lambda build, x, given: build.op(
                "ReduceSum", x, build.integers(*range(2, len(given) + 1)), keepdims=1
            ),
            "python": lambda x, weight, given: f"{x}.sum({list(range(2, len(given) + 1))}, keepdim=True)",
        },
    ),
}
