"""Whether a replay does what a plain call does: in what it gives, and in what it changes.

A changed tensor is compared by how far it has moved, so that a small change that a replay leaves out is seen, such as
one step of an average. Where two plain calls agree to the bit nothing but rounding is allowed; where they differ among
themselves, as kernels do that add in any order, a replay may differ as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_CLOSE = {torch.float64: 1e-9, torch.float32: 1e-3}
"""The share of a change by which kernels of other shapes or libraries may round it otherwise."""
_CLOSE_HALF = 5e-2

_NOISE = 4.0
"""How many times as far apart as two plain calls a replay may be, and the share of the change that this may come to."""
_MOST = 0.25


class Kept:
    """The values of all state at one time."""

    def __init__(self, state: Callable[[], Iterable[Tensor]]) -> None:
        self.state = state
        self.tensors = list(state())
        self.values = [each.detach().clone() for each in self.tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """Write the values back; what has appeared since becomes zero."""
        before = {id(each) for each in self.tensors}
        for each, value in zip(self.tensors, self.values, strict=True):
            each.copy_(value)
        for each in self.state():
            if id(each) not in before:
                each.zero_()


@dataclass(frozen=True, eq=False)
class Effect:
    """What a call has given, and the values of all state after it."""

    outputs: Sequence[Tensor]
    after: Sequence[Tensor]


def flaw(replay: Effect, plain: Effect, again: Effect, before: Sequence[Tensor]) -> str | None:
    """What is wrong with a replay, or None. `plain` and `again` are two plain calls, `before` the state before each."""
    if len(replay.outputs) != len(plain.outputs) or len(replay.after) != len(plain.after):
        return "its replay changes other tensors than a plain call"
    none = [None] * len(plain.outputs)
    for what, found, wanted, other, start in (
        ("gives", replay.outputs, plain.outputs, again.outputs, none),
        ("leaves", replay.after, plain.after, again.after, before),
    ):
        if not all(_agree(*each) for each in zip(found, wanted, other, start, strict=True)):
            return f"a replay {what} other numbers than a plain call"
    return None


def _agree(found: Tensor, wanted: Tensor, other: Tensor, before: Tensor | None) -> bool:
    # A loss that is no number is its user's to find: a replay that gives the same is right.
    if torch.equal(found, wanted) or bool(_same(found, wanted).all()):
        return True
    noise = _distance(other, wanted)
    if not found.is_floating_point():
        return noise > 0
    moved = _distance(wanted, torch.zeros_like(wanted) if before is None else before)
    close = _CLOSE.get(found.dtype, _CLOSE_HALF) * moved
    if moved:
        # A change is rounded to the digits of what it is added to.
        close += 2 * torch.finfo(found.dtype).eps * _distance(wanted, torch.zeros_like(wanted))
    return _distance(found, wanted) <= max(close, min(_NOISE * noise, _MOST * moved))


def _distance(one: Tensor, other: Tensor) -> float:
    """The root of the summed squares of the differences; equal infinities and nans do not differ."""
    difference = (one.double() - other.double()).masked_fill(_same(one, other), 0.0)
    return float(torch.linalg.vector_norm(difference))


def _same(one: Tensor, other: Tensor) -> Tensor:
    return (one == other) | (one.isnan() & other.isnan())
