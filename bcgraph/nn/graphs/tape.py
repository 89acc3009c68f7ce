"""A training pass of captured segments and of plain calls between them, which autograd sees as one operation.

Autograd would make a node of each segment, and a tensor of each value, which takes as long as to start the replay. Here
the backward pass goes through the records of the forward pass in reverse order, as autograd does, and adds gradients up
in the same order. Plain calls have small graphs of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from bcgraph.nn.graphs.segment import GraphedSegment, Places

Gradients = dict[str, Tensor]
"""Gradients of values by name, as far as they are known."""


class _Record(Protocol):
    def backward(self, gradients: Gradients) -> None:
        """Take the gradients of what the record gives, and add those of what it reads."""


@dataclass(frozen=True, eq=False)
class _Replayed:
    """A replay of a captured segment."""

    segment: GraphedSegment
    reads: Sequence[str]
    gives: Sequence[str]

    def backward(self, gradients: Gradients) -> None:
        given = [gradients.pop(name, None) for name in self.gives]
        if all(each is None for each in given):
            return
        found = self.segment.replay_backward(given)
        for name, gradient in zip(self.reads, found, strict=True):
            if gradient is not None:
                # Not in place: the next replay, or another value, may have the same tensor.
                gradients[name] = gradients[name] + gradient if name in gradients else gradient


@dataclass(frozen=True, eq=False)
class _Plain:
    """Plain calls one after the other, from `leaves`, with what they gave."""

    leaves: dict[str, Tensor] = field(default_factory=dict)
    given: dict[str, Tensor] = field(default_factory=dict)

    def backward(self, gradients: Gradients) -> None:
        roots = [(x, gradients.pop(name)) for name, x in self.given.items() if name in gradients]
        if not roots:
            return
        # What has arrived at a value before comes first in its sum, as without the tape.
        roots += [(x, gradients.pop(name)) for name, x in self.leaves.items() if x.requires_grad and name in gradients]
        torch.autograd.backward([x for x, _ in roots], [gradient for _, gradient in roots])
        gradients.update((name, leaf.grad) for name, leaf in self.leaves.items() if leaf.grad is not None)


class Tape:
    """One training pass: the values by their names, and what was done to get them.

    It begins with the value `x`, called `name`. A value may be dropped when nothing reads it any more.
    """

    def __init__(self, places: Places, name: str, x: Tensor) -> None:
        self.places = places
        self.start = name
        self.x = x
        self.values: dict[str, Tensor] = {name: x}
        self.records: list[_Record] = []
        self.finished = False
        # The values that gradients are asked for.
        self._asked = {name} if x.requires_grad else set()
        self._calls: _Plain | None = None

    @torch.no_grad()
    def replay(self, segment: GraphedSegment, reads: Sequence[str], gives: Sequence[str]) -> None:
        """Run a segment, which is captured the first time; one that cannot be runs plain."""
        inputs = [self.values[name] for name in reads]
        if not segment.tried:
            segment.record(
                [x.detach().requires_grad_(name in self._asked) for name, x in zip(reads, inputs, strict=True)]
            )
        if segment.failed:
            self.call(segment.call, reads, gives)
            return
        self.values.update(zip(gives, segment.replay(inputs), strict=True))
        self._asked.update(gives[index] for index in segment.gradients)
        self.records.append(_Replayed(segment, reads, gives))
        self._calls = None

    @torch.enable_grad()
    def call(self, call: Callable[..., tuple[Tensor, ...]], reads: Sequence[str], gives: Sequence[str]) -> None:
        """Run a plain call."""
        if self._calls is None:
            self._calls = _Plain()
            self.records.append(self._calls)
        found = call(*(self._operand(self._calls, name) for name in reads))
        for name, x in zip(gives, found, strict=True):
            self.values[name] = x
            if x.requires_grad:
                self._calls.given[name] = x
                self._asked.add(name)

    def drop(self, names: Iterable[str]) -> None:
        """Forget values that nothing reads any more."""
        for name in names:
            del self.values[name]

    def end(self, name: str) -> Tensor:
        """The value `name`, whose gradient goes back through all of the pass, once."""
        found: Tensor = _Pass.apply(self, name, self.places.leaf(self.x), self.x)
        return found

    def backward(self, name: str, gradient: Tensor) -> Tensor | None:
        """The gradient of x from that of the value `name`; those of the weights are added to theirs."""
        if self.finished:
            raise RuntimeError("a pass through captured segments goes backward once")
        self.finished = True
        gradients = {name: gradient}
        while self.records:
            self.records.pop().backward(gradients)
        return gradients.get(self.start)

    def _operand(self, calls: _Plain, name: str) -> Tensor:
        if name in calls.given:
            return calls.given[name]
        if name not in calls.leaves:
            calls.leaves[name] = self.values[name].detach().requires_grad_(name in self._asked)
        return calls.leaves[name]


class _Pass(torch.autograd.Function):
    """A whole pass for autograd."""

    @staticmethod
    def forward(ctx: Any, tape: Tape, name: str, anchor: Tensor, x: Tensor) -> Tensor:
        ctx.tape, ctx.name = tape, name
        return tape.values.pop(name).detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, ctx.tape.backward(ctx.name, gradient)
