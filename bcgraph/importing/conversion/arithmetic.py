"""Rules of sums, products and other joins of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from torch import Tensor, nn

from bcgraph.importing.conversion.converter import Converter, text
from bcgraph.importing.layers import RefusedError, View
from bcgraph.importing.record import Ref


def join(c: Converter, word: str, views: Sequence[View], shape: tuple[int, ...]) -> View:
    """A join of several values, whose axes are the same."""
    axes = max((view.axes for view in views), key=len)
    if any(view.axes not in (axes, "c") for view in views):
        raise RefusedError("tensors whose axes are in different orders meet")
    # In a product a vector holds for all places.
    ranks = {len(c.shape(view)) for view in views} - ({1} if word == "mul" else set())
    if len(ranks) > 1:
        raise RefusedError("tensors of different numbers of axes meet", "keep the axes of size 1")
    return c.join(word, views, shape, axes)


def added(c: Converter, x: Any, y: Any, *, alpha: Any = 1, **_: Any) -> View:
    """`x + y`."""
    if alpha != 1:
        raise RefusedError("a sum with a factor cannot be said", "multiply before")
    if not (isinstance(x, Ref) and isinstance(y, Ref)):
        other = y if isinstance(x, Ref) else x
        if isinstance(other, int | float) and other == 0:
            return c.view(x if isinstance(x, Ref) else y)
        what = "a trained value" if isinstance(other, nn.Parameter) else "a constant"
        raise RefusedError(f"{what} is added, which cannot be said", "a bias is one of a convolution or a linear layer")
    one, other = c.view(x), c.view(y)
    if c.shape(one) != c.shape(other):
        raise RefusedError(f"tensors of {text(c.shape(one))} and {text(c.shape(other))} are added")
    return join(c, "sum", [one, other], c.shape(one))


def subtracted(c: Converter, x: Any, y: Any, **_: Any) -> View:
    """`x - y`."""
    if isinstance(x, Ref) and isinstance(y, Ref):
        other = c.view(y)
        turned = c.unnamed("times", other, c.shape(other), other.axes, factor=-1.0)
        return join(c, "sum", [c.view(x), turned], c.shape(other))
    if isinstance(y, Ref) and x == 1:
        return from_one(c, y, x)
    raise RefusedError("a constant is taken away, which cannot be said")


def from_one(c: Converter, x: Ref, one: Any) -> View:
    """`1 - x`."""
    if one != 1:
        raise RefusedError(f"{one} less a tensor cannot be said", "1 less a tensor can")
    view = c.view(x)
    return c.unnamed("complement", view, c.shape(view), view.axes)


def multiplied(c: Converter, x: Any, y: Any, **_: Any) -> View:
    """`x * y`: of two values, with a number, or with a trained factor for each channel."""
    if isinstance(x, Ref) and isinstance(y, Ref):
        one, other = c.view(x), c.view(y)
        shape = tuple(max(sizes) for sizes in zip_longest(c.shape(one), c.shape(other), fillvalue=1))
        return join(c, "mul", [one, other], shape)
    value, factor = (x, y) if isinstance(x, Ref) else (y, x)
    view = c.view(value)
    if isinstance(factor, Tensor) and factor.numel() == 1 and not isinstance(factor, nn.Parameter):
        factor = float(factor)
    if isinstance(factor, int | float):
        return view if factor == 1 else c.unnamed("times", view, c.shape(view), view.axes, factor=float(factor))
    channels = c.shape(view)[0]
    place = factor.dim() - (len(view.axes) - view.axes.index("c"))
    alone = factor.numel() == channels and place >= 0 and factor.shape[place] == channels
    if isinstance(factor, Tensor) and (alone or factor.numel() == 1):
        values = factor.detach().reshape(-1).expand(channels).clone()
        return c.add("scale", (view.layer,), c.shape(view), view.axes, _own(c, factor, "scale"), {"weight": values})
    raise RefusedError("a product with a tensor that is not one factor for each channel cannot be said")


def _own(c: Converter, tensor: Tensor, otherwise: str) -> str:
    """The name of a parameter of the module that runs."""
    name = c.owners.get(id(tensor))
    return otherwise if name is None else name.split(".")[-1]


def divided(c: Converter, x: Any, y: Any, **_: Any) -> View:
    """`x / number`."""
    if isinstance(x, Ref) and isinstance(y, int | float):
        return multiplied(c, x, 1.0 / y)
    raise RefusedError("a quotient of tensors cannot be said")


def concatenated(c: Converter, tensors: Any, dim: int = 0, **_: Any) -> View:
    """`cat` along channels."""
    views = [c.view(each) for each in tensors]
    axes = views[0].axes
    if not dim % (len(axes) + 1) > 0 or axes[dim % (len(axes) + 1) - 1] != "c":
        raise RefusedError("tensors are put side by side along another axis than channels")
    if len(views) == 1:
        return views[0]
    shape = c.shape(views[0])
    return join(c, "concat", views, (sum(c.shape(view)[0] for view in views), *shape[1:]))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("add", "add_", "__radd__", "__add__", "__iadd__"), added),
    **dict.fromkeys(("sub", "sub_", "subtract", "__sub__"), subtracted),
    **dict.fromkeys(("__rsub__", "rsub"), from_one),
    **dict.fromkeys(("mul", "mul_", "multiply", "__mul__", "__rmul__"), multiplied),
    **dict.fromkeys(("div", "div_", "true_divide", "__truediv__"), divided),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenated),
}
