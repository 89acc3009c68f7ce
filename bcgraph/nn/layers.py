"""Modules of the layers that `bcgraph.layers` declares, and the product of branches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from bcgraph.layers import STANDARD
from bcgraph.shapes import Shape


class Computed(nn.Module):
    """A layer that is a function of its input and of its trained values: see `bcgraph.layers.Standard.forward`."""

    def __init__(self, kind: str, given: Shape, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.kind, self.given, self.arguments = kind, given, dict(arguments)
        for name, value in STANDARD[kind].weights(given, **arguments).items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, ...]` to `[N, C', ...]`."""
        function: Callable[..., Tensor] | None = STANDARD[self.kind].forward
        assert function is not None
        return function(x, self.get_parameter, self.given, **self.arguments)

    def extra_repr(self) -> str:
        """The layer as a text has it."""
        return f"{self.kind}({', '.join(f'{name}={value}' for name, value in self.arguments.items())})"


def standard(kind: str, given: Shape, arguments: Mapping[str, Any]) -> nn.Module:
    """The module of a declared layer for the shape that reaches it."""
    make = STANDARD[kind].module
    module: nn.Module = Computed(kind, given, arguments) if make is None else make(given, **arguments)
    return module


def multiply(*values: Tensor) -> Tensor:
    """The product of values `[N, C, ...]`; one of fewer channels, or without places, holds for all it stands for."""
    channels, rank = max(value.shape[1] for value in values), max(value.dim() for value in values)
    result = None
    for value in values:
        wide = value if value.shape[1] == channels else value.repeat_interleave(channels // value.shape[1], 1)
        wide = wide.view(*wide.shape, *[1] * (rank - wide.dim()))
        result = wide if result is None else result * wide
    assert result is not None
    return result
