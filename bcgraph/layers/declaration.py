"""What a layer declares of itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from bcgraph.plugins.values import Argument, arguments_of

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Standard:
    """A layer: rules that are called with the shape of one sample that reaches it, and its arguments by name.

    `shape` is the shape after the layer; it raises ValueError for one that does not fit. `forward(x, weight, given,
    **arguments)` maps `[N, *given]` to `[N, *shape]`; `weight(name)` is one of its trained values, which
    `weights(given, **arguments)` makes by name. A module of torch itself takes the place of both:
    `module(given, **arguments)` makes it.

    `parameters` counts trained values, `operations` multiply-accumulates of one sample and step. `zero` says what a
    zero operand leaves: "zero", or "keep" where the result has to be computed. A layer that `keeps_spikes` makes zeros
    and ones of zeros and ones. A layer without trained values needs no name (`named`).

    `emitters` have a function for each target that can carry the layer: `onnx(build, x, given, **arguments)` gives the
    value, `python(x, weight, given, **arguments)` the expression, and `nir(weight, given, **arguments)` the node.
    `c(x, weight, given, **arguments)` gives the expression of one element of a layer that is elementwise.
    """

    shape: Callable[..., Shape]
    forward: Callable[..., Any] | None = None
    parameters: Callable[..., int] | None = None
    operations: Callable[..., int] | None = None
    zero: Callable[..., Literal["zero", "keep"]] = lambda **arguments: "zero"
    keeps_spikes: bool = False
    weights: Callable[..., Mapping[str, Any]] = lambda given, **arguments: {}
    module: Callable[..., Any] | None = None
    emitters: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """What a call of the layer may be given, read off its shape rule."""
        return arguments_of(self.shape)

    @property
    def named(self) -> bool:
        """Whether the layer has trained values, so that it needs a name of its own."""
        return self.parameters is not None


def keep(**arguments: Any) -> Literal["zero", "keep"]:
    """The `zero` of a layer that makes something of nothing."""
    return "keep"


def places(given: Shape) -> int:
    """The number of places of an image or a signal; 1 for a vector."""
    return math.prod(given[1:])


def at_least(name: str, value: float, low: float) -> None:
    """Raises ValueError where an argument is below its range."""
    if value < low:
        raise ValueError(f"`{name}` cannot be {value}: it is at least {low}")


def divides(channels: int, groups: int, what: str = "groups") -> None:
    """Raises ValueError where channels do not divide into groups."""
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels do not divide into {groups} {what}")


def by_channel(weight: str, given: Shape) -> str:
    """The Python text of a weight `[C]` that broadcasts over samples of `given`."""
    return weight + f"[{', '.join([':', *['None'] * (len(given) - 1)])}]" if len(given) > 1 else weight


def onnx_by_channel(build: Any, name: str, given: Shape) -> Any:
    """A weight `[C]` of the layer as an ONNX value that broadcasts over samples of `given`."""
    weight = build.weight(name)
    if len(given) == 1:
        return weight
    return build.op("Reshape", weight, build.integers(-1, *[1] * (len(given) - 1)))
