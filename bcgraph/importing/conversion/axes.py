"""Rules of what reads the axes of a tensor in another way, or takes a part of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from bcgraph.importing.conversion.converter import AXES, Converter, ModuleRule, text, without
from bcgraph.importing.layers import RefusedError, View
from bcgraph.importing.record import Ref


def reshaped(c: Converter, x: Ref, *_: Any, **__: Any) -> View:
    """`flatten`, `view`, `reshape`, `squeeze` and `unsqueeze`, by the shape of what comes out."""
    view, after = c.view(x), c.result()
    shape = c.shape(view)
    plain = view.axes == AXES[len(shape)]
    if len(after) == 1 and after[0] == math.prod(shape) and (plain or view.axes == "c"):
        return view if len(shape) == 1 else c.unnamed("flatten", view, after, "c")
    if after == shape and (plain or view.axes == "gc"):
        return View(view.layer, AXES[len(shape)])
    if plain and len(shape) == 3 and after == (shape[0], shape[1] * shape[2]):
        return c.unnamed("tokens", view, after, "cl")
    if plain and len(after) == len(shape) + 1 and after[0] * after[1] == shape[0] and after[2:] == shape[1:]:
        return View(view.layer, f"g{view.axes}")
    if view.axes.startswith("cg") and after == shape:
        groups = c.recording.values[x.number].shape[2]
        return c.unnamed("shuffle", View(view.layer, AXES[len(shape)]), shape, AXES[len(shape)], groups=groups)
    if after == (*shape, *[1] * (len(after) - len(shape))) and len(shape) > 0 and view.axes == "c" == AXES[len(shape)]:
        # A vector as an image of one place: products and convolutions of one place read it so.
        return View(view.layer, "c")
    if view.axes == "c" and after == shape:
        return View(view.layer, AXES[len(shape)])
    hint = "a module that repeats its input over steps can be given as that of one step"
    raise RefusedError(f"a tensor of {text(shape)} as {text(after)} cannot be said", hint)


def _flatten_module(c: Converter, m: Any, x: Ref) -> View:
    return reshaped(c, x)


def permuted(c: Converter, x: Ref, *dims: Any, **named: Any) -> View:
    """`permute`: the axes in another order."""
    view = c.view(x)
    order = dims or tuple(named.values())
    if len(order) == 1 and isinstance(order[0], tuple):
        order = order[0]
    rank = len(view.axes) + 1
    order = tuple(int(each) % rank for each in order)
    if order[0] != 0:
        raise RefusedError("the batch stays the first axis")
    return View(view.layer, "".join(view.axes[each - 1] for each in order[1:]))


def transposed(c: Converter, x: Ref, one: int, other: int) -> View:
    """`transpose`: two axes change places."""
    rank = len(c.view(x).axes) + 1
    order = list(range(rank))
    order[one % rank], order[other % rank] = order[other % rank], order[one % rank]
    return permuted(c, x, tuple(order))


def split(c: Converter, x: Ref, size: Any, dim: int = 0, **_: Any) -> list[View]:
    """`chunk` and `split` along channels."""
    view = c.view(x)
    if view.axes[dim % (len(view.axes) + 1) - 1] != "c" or dim == 0:
        raise RefusedError("a tensor is split along another axis than channels")
    found, first = [], 0
    axis = dim % (len(view.axes) + 1)
    for ref in c.call.results:
        count = c.recording.values[ref.number].shape[axis]
        shape = (count, *c.shape(view)[1:])
        found.append(c.unnamed("select", view, shape, view.axes, first=first, count=count))
        first += count
    return found


def part(c: Converter, x: Ref, index: Any) -> View:
    """`x[:, a:b]`: some channels."""
    view = c.view(x)
    index = index if isinstance(index, tuple) else (index,)
    whole = slice(None)
    channels = c.shape(view)[0]
    if (
        len(index) >= 2
        and index[0] == whole
        and isinstance(index[1], slice)
        and all(i in (whole, ...) for i in index[2:])
    ):
        first, end, step = index[1].indices(channels)
        if step == 1 and view.axes.startswith("c") and end > first:
            if (first, end) == (0, channels):
                return view
            shape = (end - first, *c.shape(view)[1:])
            return c.unnamed("select", view, shape, view.axes, first=first, count=end - first)
    if index == (..., None) or all(i in (whole, None, ...) for i in index):
        return reshaped(c, x)
    raise RefusedError("a part of a tensor other than a range of channels cannot be said")


def padded(c: Converter, x: Ref, pad: Any, mode: str = "constant", value: Any = None) -> View:
    """`pad` with zeros, to any side."""
    sides = [int(each) for each in pad] + [0] * (4 - len(pad))
    if not any(sides):
        return c.view(x)
    view = c.plain(c.view(x), "padding")
    if mode != "constant" or value not in (None, 0) or len(sides) > 4 or min(sides) < 0:
        raise RefusedError(f"padding by {tuple(pad)} with `{mode}` cannot be said", "padding is by zeros")
    given = without(dict(zip(("left", "right", "top", "bottom"), sides, strict=True)), left=0, right=0, top=0, bottom=0)
    return c.unnamed("pad", view, c.result(), view.axes, **given)


def shuffled(c: Converter, x: Ref, groups: int) -> View:
    """`channel_shuffle`."""
    view = c.plain(c.view(x), "a shuffle")
    return c.unnamed("shuffle", view, c.shape(view), view.axes, groups=groups)


def _channel_shuffle(c: Converter, m: Any, x: Ref) -> View:
    return shuffled(c, x, m.groups)


MODULES: Mapping[type, ModuleRule] = {
    nn.Flatten: _flatten_module,
    nn.ChannelShuffle: _channel_shuffle,
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "ravel"), reshaped),
    "permute": permuted,
    **dict.fromkeys(("transpose", "swapaxes"), transposed),
    **dict.fromkeys(("chunk", "split", "tensor_split"), split),
    "__getitem__": part,
    "pad": padded,
    "channel_shuffle": shuffled,
}
