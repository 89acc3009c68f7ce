"""Rules of pooling, means over places and upsampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from bcgraph.importing.conversion.converter import AXES, Converter, ModuleRule, size, without
from bcgraph.importing.layers import RefusedError, View
from bcgraph.importing.record import Ref


def _pool_module(kind: str) -> Callable[[Converter, Any, Ref], View]:
    def rule(c: Converter, m: Any, x: Ref) -> View:
        if kind == "maxpool":
            if m.return_indices:
                raise RefusedError("the places of a maximum cannot be said")
            return max_pool(c, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)
        divisor = getattr(m, "divisor_override", None)
        return average_pool(c, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, divisor)

    return rule


def max_pool(
    c: Converter, x: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> View:  # fmt: skip
    """A maximum over windows."""
    if size(dilation) != 1:
        raise RefusedError("a maximum over windows with gaps cannot be said")
    return _pool(c, "maxpool", x, kernel_size, stride, padding, ceil=ceil_mode)


def average_pool(
    c: Converter, x: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: Any = None,
) -> View:  # fmt: skip
    """An average over windows."""
    if divisor_override is not None:
        raise RefusedError("an average by a divisor of its own cannot be said")
    padded = size(padding) not in (0, (0, 0))
    if padded and not count_include_pad:
        raise RefusedError("an average that does not count its padding cannot be said")
    return _pool(c, "avgpool", x, kernel_size, stride, padding, ceil=ceil_mode)


def _pool(c: Converter, kind: str, x: Ref, kernel_size: Any, stride: Any, padding: Any, *, ceil: bool) -> View:
    if kind == "avgpool" and c.view(x).axes == "gc" and stride == kernel_size and size(padding) == 0:
        return _vote(c, c.view(x), size(kernel_size))
    view = c.plain(c.view(x), "pooling")
    kernel = size(kernel_size)
    stride = kernel if stride is None or stride == () or stride == [] else size(stride)
    padding = size(padding)
    two = [value if isinstance(value, tuple) else (value, value) for value in (kernel, stride, padding)]
    down = tuple((length + 2 * p - k) // s + 1 for length, k, s, p in zip(c.shape(view)[1:], *two, strict=False))
    given = without({"stride": stride, "padding": padding}, padding=0)
    given = without(given, stride=kernel)
    if ceil and down != c.result()[1:]:
        if kind == "avgpool":
            raise RefusedError("an average over windows that are not full cannot be said")
        given["ceil"] = True
    return c.unnamed(kind, view, c.result(), view.axes, kernel=kernel, **given)


def _vote(c: Converter, view: View, count: int) -> View:
    """The average of each `count` features of a vector, which the module reads as one channel of places."""
    (features,) = c.shape(view)
    if c.result() != (1, features // count) or features % count:
        raise RefusedError(f"{features} features do not divide into averages of {count}")
    added = c.unnamed("channel_sum", view, (features // count,), view.axes, groups=features // count)
    return c.unnamed("times", added, c.shape(added), view.axes, factor=1.0 / count)


def _adaptive_module(kind: str) -> Callable[[Converter, Any, Ref], View]:
    return lambda c, m, x: adaptive(c, kind, x, m.output_size)


def adaptive(c: Converter, kind: str, x: Ref, output_size: Any, return_indices: bool = False) -> View:
    """Pooling to a fixed size."""
    view = c.plain(c.view(x), "pooling")
    shape = c.result()
    if shape == c.shape(view):
        return view
    wanted = size(shape[1:])
    given = {} if wanted == 1 else {"size": wanted}
    return c.unnamed(kind, view, shape, view.axes, **given)


def averaged(c: Converter, x: Ref, dim: Any = None, keepdim: bool = False, **_: Any) -> View:
    """`mean` over all places."""
    view = c.view(x)
    shape, rank = c.shape(view), len(view.axes) + 1
    dims = {int(each) % rank for each in (dim if isinstance(dim, tuple) else (dim,))} if dim is not None else set()
    over = {view.axes[each - 1] for each in dims if each}
    if 0 in dims or over != set(AXES[len(shape)][1:]) or len(shape) == 1:
        raise RefusedError("a mean is over all places of a channel")
    after = (shape[0], *[1] * (len(shape) - 1))
    axes = AXES[len(shape)] if keepdim and view.axes == AXES[len(shape)] else "c"
    if keepdim and axes == "c":
        raise RefusedError("a mean that keeps its axes is over the last of them")
    return c.unnamed("adaptive_avgpool", View(view.layer, AXES[len(shape)]), after, axes)


def _upsample_module(c: Converter, m: Any, x: Ref) -> View:
    return interpolated(c, x, m.size, m.scale_factor, m.mode)


def interpolated(
    c: Converter, x: Ref, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *_: Any, **__: Any
) -> View:
    """Nearest upsampling by a whole factor."""
    view = c.plain(c.view(x), "upsampling")
    before, after = c.shape(view)[1:], c.result()[1:]
    factor = after[0] // before[0]
    if not mode.startswith("nearest") or any(a != factor * b for a, b in zip(after, before, strict=True)):
        raise RefusedError(
            f"upsampling by `{mode}` from {before} to {after} cannot be said", "known: nearest, by a whole factor"
        )
    return view if factor == 1 else c.unnamed("upsample", view, c.result(), view.axes, factor=factor)


MODULES: Mapping[type, ModuleRule] = {
    nn.MaxPool2d: _pool_module("maxpool"),
    nn.MaxPool1d: _pool_module("maxpool"),
    nn.AvgPool2d: _pool_module("avgpool"),
    nn.AvgPool1d: _pool_module("avgpool"),
    nn.AdaptiveAvgPool2d: _adaptive_module("adaptive_avgpool"),
    nn.AdaptiveAvgPool1d: _adaptive_module("adaptive_avgpool"),
    nn.AdaptiveMaxPool2d: _adaptive_module("adaptive_maxpool"),
    nn.AdaptiveMaxPool1d: _adaptive_module("adaptive_maxpool"),
    nn.Upsample: _upsample_module,
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("max_pool2d", "max_pool1d", "_max_pool2d", "_max_pool1d"), max_pool),
    **dict.fromkeys(("avg_pool2d", "avg_pool1d"), average_pool),
    **dict.fromkeys(
        ("adaptive_avg_pool2d", "adaptive_avg_pool1d"),
        lambda c, x, output_size: adaptive(c, "adaptive_avgpool", x, output_size),
    ),
    **dict.fromkeys(
        ("adaptive_max_pool2d", "adaptive_max_pool1d"),
        lambda c, x, output_size, *rest: adaptive(c, "adaptive_maxpool", x, output_size),
    ),
    "mean": averaged,
    "interpolate": interpolated,
}
