"""What a recording becomes: layers of the language, each with the values it reads, its weights and its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor

from bcgraph.importing.record import Place

Shape: TypeAlias = tuple[int, ...]
Scope: TypeAlias = tuple[str, ...]

JOINS = ("sum", "concat", "mul")


class RefusedError(Exception):
    """A call that cannot be said, and why. Never leaves the package."""

    def __init__(self, message: str, hint: str | None = None, place: Place | None = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.place = message, hint, place


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A layer or a join: what is called, with what, on which layers; number 0 is the input.

    `name` is None where a layer needs none. `scope` is the path of the module it stands in. `weights` are what the
    state dict has behind its name. `neuron` marks an activation or a neuron.
    """

    call: str
    arguments: tuple[tuple[str, Any], ...]
    inputs: tuple[int, ...]
    shape: Shape
    scope: Scope
    name: str | None
    place: Place
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    neuron: bool = False
    definition: str | None = None

    @property
    def repeatable(self) -> bool:
        """Whether it may be computed twice: it has neither weights nor state."""
        return not self.weights and not self.neuron


@dataclass(frozen=True, slots=True)
class View:
    """A tensor of the module: the layer that computes it, and what each of its axes after the batch is.

    Axes are `c` (channels), `h`, `w`, `l` (length); `g` are groups of channels on their way to a shuffle. An axis of
    size 1 of the layer may be missing.
    """

    layer: int
    axes: str
