"""Shapes and sizes of layers: the one place that says what a layer makes of what it gets.

A shape is that of one sample at one step, without the batch axis: `(C, H, W)` or `(F,)`. Elaboration uses this
to report misfits with a span and to refuse what would be too large; lowering uses it to type the temporal graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Any, TypeAlias

from bcgraph import plugins, schema
from bcgraph.errors import SpecError
from bcgraph.layers import STANDARD
from bcgraph.machine import refuses

Shape: TypeAlias = tuple[int, ...]


def infer(layer: schema.LayerNode, shape: Shape) -> Shape:
    """The shape after `layer` for `shape` before it. Raises SpecError (E050, E051) with the layer's span.

    Joins recurse into their branches.
    """
    return _RULES[type(layer)](layer, shape)


def parameters(layer: schema.LayerNode, shape: Shape, steps: int = 0) -> int:
    """Number of trained values of a single layer that `shape` reaches (0 for joins).

    Norms with a scale for each step have one for each of `steps`.
    """
    if isinstance(layer, schema.Conv):
        weights = layer.channels * (shape[0] // layer.groups) * taps(layer, shape)
        return weights + (layer.channels if layer.bias else 0)
    if isinstance(layer, schema.Linear):
        return layer.features * (shape[0] + (1 if layer.bias else 0))
    if isinstance(layer, schema.BatchNorm):
        return 2 * shape[0] + (steps if layer.norm.scales == "per_step" else 0)
    if isinstance(layer, schema.NeuronLayer):
        return sum(shape[0] if each.channels else 1 for each in layer.neuron.equations.learned)
    if isinstance(layer, schema.Registered):
        return _count(layer, "parameters", shape)
    if isinstance(layer, schema.Standard):
        return _declared(layer, "parameters", shape)
    return 0


def operations(layer: schema.LayerNode, shape: Shape) -> int:
    """Multiply-accumulates of one sample and one step in a single layer that `shape` reaches."""
    if isinstance(layer, schema.Conv):
        return math.prod(infer(layer, shape)) * (shape[0] // layer.groups) * taps(layer, shape)
    if isinstance(layer, schema.Linear):
        return layer.features * shape[0]
    if isinstance(layer, schema.Registered):
        return _count(layer, "operations", shape)
    if isinstance(layer, schema.Standard):
        return _declared(layer, "operations", shape)
    return 0


def registered(layer: schema.Registered) -> plugins.Entry:
    """What is registered for a layer. Raises SpecError (E031) where nothing is in this process."""
    entry = plugins.find("layer", layer.layer, () if layer.package is None else (layer.package,))
    if entry is None:
        raise SpecError(
            "E031",
            f"the layer `{layer.layer}` is not registered in this process",
            span=layer.span,
            hint="worker processes know what an installed package registers",
        )
    return entry


def outputs(spec: schema.NetworkSpec) -> int:
    """The number of outputs of a network."""
    return math.prod(run(spec.backbone.body, spec.input.shape))


def spatial(shape: Shape) -> tuple[int, int]:
    """Height and width; a signal counts as a column, a vector as 1x1 (a port with no spatial axes)."""
    height, width = (*shape[1:], 1, 1)[:2]
    return height, width


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """The size of rows and that of columns."""
    return size if isinstance(size, tuple) else (size, size)


def taps(layer: schema.Conv, shape: Shape) -> int:
    """The number of places that a kernel reads, on an image or a signal of `shape`."""
    return math.prod(pair(layer.kernel)[: len(shape) - 1])


def ports(backbone: schema.Backbone, fed: schema.InputSpec) -> tuple[Shape, ...]:
    """The shape of the spikes of each port, `(C, H, W)` or `(F,)`, in the order of the ports."""
    return _ports(backbone, fed.shape)


@lru_cache(maxsize=64)
def _ports(backbone: schema.Backbone, shape: Shape) -> tuple[Shape, ...]:
    return tuple(found for layer, found in walk(backbone.body, shape) if isinstance(layer, schema.NeuronLayer))


def in_common(spec: schema.NetworkSpec) -> list[tuple[int, int]]:
    """Of each port what both ports of a connection in a search must have in common: the resolution, or nothing."""
    same = spec.search.same_resolution
    return [spatial(shape) if same else (0, 0) for shape in ports(spec.backbone, spec.input)]


def run_operations(body: Sequence[schema.LayerNode], shape: Shape) -> int:
    """Multiply-accumulates of one sample and one step in a body that is given this shape.

    A 1x1 convolution and a resize by repetition may change places, so it is computed at the smaller resolution.
    """
    total = 0
    small: Shape | None = None  # what the resize just before was given
    for layer in body:
        if isinstance(layer, schema.Join):
            total += sum(run_operations(branch, shape) for branch in layer.branches)
        moves = isinstance(layer, schema.Conv) and layer.pointwise
        total += operations(layer, min(shape, small or shape, key=math.prod) if moves else shape)
        small = shape if isinstance(layer, schema.Resize) else None
        shape = infer(layer, shape)
    return total


def power_of_two(a: int, b: int) -> bool:
    """Whether one size is the other times a power of two, so that their ratio is exact in floating point."""
    big, small = max(a, b), min(a, b)
    return big % small == 0 and (big // small).bit_count() == 1


def text(shape: Shape) -> str:
    """`64x8x8` or `256`."""
    return "x".join(str(n) for n in shape)


def _misfit(layer: schema.LayerNode, message: str, hint: str | None = None) -> SpecError:
    return SpecError("E050", f"`{layer.name}`: {message}", span=layer.span, hint=hint)


def _placed(layer: schema.LayerNode, shape: Shape, *sizes: int | tuple[int, int]) -> list[tuple[int, ...]]:
    """For each axis after the channels its length, and of each of `sizes` what holds for it."""
    if len(shape) == 1:
        raise _misfit(
            layer,
            f"{layer.kind} needs channels and places, but a vector of {text(shape)} reaches it",
            "it stands after a flatten()",
        )
    if len(shape) == 2 and any(isinstance(size, tuple) for size in sizes):
        raise _misfit(layer, f"a signal of {text(shape)} has no rows and columns", "give one number")
    return list(zip(shape[1:], *(pair(size) for size in sizes), strict=False))


def _window(
    layer: schema.LayerNode, size: int, kernel: int, stride: int, padding: int, dilation: int = 1, *, ceil: bool = False
) -> int:
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    result = room // stride + 1
    # The last window begins inside the input or its left padding, as torch has it.
    if ceil and room % stride and result * stride < size + padding:
        result += 1
    if room < 0:
        raise _misfit(
            layer,
            f"a window of {dilation * (kernel - 1) + 1} does not fit a size of {size} with padding {padding}",
            "the input is too small for this depth, or the kernel too large",
        )
    return result


def _conv(layer: schema.Conv, shape: Shape) -> Shape:
    channels = shape[0]
    axes = _placed(layer, shape, layer.kernel, layer.stride, layer.padding, layer.dilation)
    if channels % layer.groups or layer.channels % layer.groups:
        raise _misfit(layer, f"{channels} and {layer.channels} channels do not divide into {layer.groups} groups")
    return (layer.channels, *(_window(layer, *axis) for axis in axes))


def _pool(layer: schema.Pool, shape: Shape) -> Shape:
    axes = _placed(layer, shape, layer.kernel, layer.stride, layer.padding)
    for _, kernel, _, padding in axes:
        if 2 * padding > kernel:
            raise _misfit(layer, f"padding {padding} is more than half the kernel {kernel}")
    return (shape[0], *(_window(layer, *axis, ceil=layer.ceil) for axis in axes))


def _adaptive(layer: schema.AdaptivePool, shape: Shape) -> Shape:
    axes = _placed(layer, shape, layer.size)
    after = tuple(size for _, size in axes)
    if any(size > length for length, size in axes):
        raise _misfit(layer, f"cannot pool {text(shape[1:])} to {text(after)}")
    return (shape[0], *after)


def _resize(layer: schema.Resize, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise _misfit(layer, f"resize needs maps, but {text(shape)} reaches it", "it stands before a flatten()")
    return (shape[0], *layer.size)


def _linear(layer: schema.Linear, shape: Shape) -> Shape:
    if len(shape) != 1:
        raise _misfit(layer, f"linear needs a vector, but {text(shape)} reaches it", "put a flatten() before it")
    return (layer.features,)


def _flatten(layer: schema.Flatten, shape: Shape) -> Shape:
    return (math.prod(shape),)


def _registered(layer: schema.Registered, shape: Shape) -> Shape:
    found = _asked(layer, "shape", shape)
    whole = isinstance(found, tuple) and len(found) in (1, 3) and all(type(n) is int and 1 <= n <= 2**31 for n in found)
    if not whole:
        raise _not_as_declared(layer, f"its shape rule gives {found!r:.60}", "(channels, height, width) or (features,)")
    return tuple(found)


def _count(layer: schema.Registered, what: str, shape: Shape) -> int:
    if getattr(registered(layer).value, what) is None:
        return 0
    found = _asked(layer, what, shape)
    if type(found) is not int or found < 0:
        raise _not_as_declared(layer, f"its number of {what} is {found!r:.60}", "a whole number from 0")
    return found


def _asked(layer: schema.Registered, what: str, shape: Shape) -> Any:
    """What a rule of a registered layer says. It raises ValueError for a shape that the layer cannot take."""
    rule = getattr(registered(layer).value, what)
    try:
        return rule(shape, **dict(layer.arguments))
    except ValueError as error:
        raise _misfit(layer, plugins.reason(error).removeprefix("ValueError: "), f"{text(shape)} reaches it") from error
    except Exception as error:
        if refuses(error):
            raise
        raise _not_as_declared(layer, f"its rule for {what} fails: {plugins.reason(error)}") from error


def _not_as_declared(layer: schema.Registered, why: str, hint: str | None = None) -> SpecError:
    origin = registered(layer).origin
    message = f"`{layer.name}`: the layer `{layer.layer}` is not what it declares: {why}"
    return SpecError("E056", message, span=layer.span, hint=hint, notes=(f"it is registered by {origin}",))


def _same(layer: schema.LayerNode, shape: Shape) -> Shape:
    return shape


def run(body: Sequence[schema.LayerNode], shape: Shape) -> Shape:
    """The shape after a whole body."""
    for layer in body:
        shape = infer(layer, shape)
    return shape


def walk(body: Sequence[schema.LayerNode], shape: Shape) -> Iterator[tuple[schema.LayerNode, Shape]]:
    """Every layer of a body with the shape that reaches it, in topological order, branches before what joins them."""
    for layer in body:
        if isinstance(layer, schema.Join):
            for branch in layer.branches:
                yield from walk(branch, shape)
        yield layer, shape
        shape = infer(layer, shape)


def _sum(layer: schema.Sum, shape: Shape) -> Shape:
    shapes = [run(branch, shape) for branch in layer.branches]
    if not shapes:
        return shape
    if any(s != shapes[0] for s in shapes):
        listed = " and ".join(text(s) for s in shapes)
        raise SpecError(
            "E051",
            f"the branches of a sum have different shapes: {listed}",
            span=layer.span,
            hint="give the shorter branch the same channels and stride",
        )
    return shapes[0]


def _concat(layer: schema.Concat, shape: Shape) -> Shape:
    shapes = [run(branch, shape) for branch in layer.branches]
    if not shapes:
        return shape
    if any(s[1:] != shapes[0][1:] for s in shapes):
        listed = " and ".join(text(s) for s in shapes)
        raise SpecError(
            "E051",
            f"the branches of a concatenation differ beyond their channels: {listed}",
            span=layer.span,
            hint="height and width must agree",
        )
    return (sum(s[0] for s in shapes), *shapes[0][1:])


def _product(layer: schema.Product, shape: Shape) -> Shape:
    shapes = [run(branch, shape) for branch in layer.branches]
    if not shapes:
        return shape
    # A vector holds for all places.
    if len({len(s) for s in shapes} - {1}) <= 1:
        whole = tuple(max(sizes) for sizes in zip_longest(*shapes, fillvalue=1))
        if all(
            whole[0] % s[0] == 0 and all(a in (1, b) for a, b in zip(s[1:], whole[1:], strict=False)) for s in shapes
        ):
            return whole
    listed = " and ".join(text(s) for s in shapes)
    raise SpecError(
        "E051",
        f"the branches of a product do not fit each other: {listed}",
        span=layer.span,
        hint="channels divide each other, and other sizes are equal or 1",
    )


def _standard(layer: schema.Standard, shape: Shape) -> Shape:
    try:
        return STANDARD[layer.layer].shape(shape, **dict(layer.arguments))
    except ValueError as error:
        raise _misfit(layer, str(error), f"{text(shape)} reaches it") from None


def _declared(layer: schema.Standard, what: str, shape: Shape) -> int:
    count: Callable[..., int] | None = getattr(STANDARD[layer.layer], what)
    return 0 if count is None else count(shape, **dict(layer.arguments))


_RULES: dict[type, Callable[[Any, Shape], Shape]] = {
    schema.Conv: _conv,
    schema.BatchNorm: _same,
    schema.NeuronLayer: _same,
    schema.Linear: _linear,
    schema.Pool: _pool,
    schema.AdaptivePool: _adaptive,
    schema.Flatten: _flatten,
    schema.Dropout: _same,
    schema.Registered: _registered,
    schema.Resize: _resize,
    schema.Sum: _sum,
    schema.Concat: _concat,
    schema.Product: _product,
    schema.Standard: _standard,
}
