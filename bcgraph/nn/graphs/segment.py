"""A part of a network that is captured once, forward and backward, and replayed in whatever is built around it.

`bcgraph.nn.graphs.tape` runs such segments, with plain calls between them, for autograd.

A capture reads and writes tensors that stay in their places. So a segment whose input is the output of another one
reads it there, without a copy; what may come from elsewhere has a place of its own. Gradients of weights are added up
inside the captured backward pass, in tensors that are the weights' `grad`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bcgraph.errors import BcgraphWarning
from bcgraph.nn.graphs.capture import Capture, Run
from bcgraph.nn.graphs.comparison import Effect, Kept, flaw
from bcgraph.nn.graphs.graphed import WARM_UPS

Call = Callable[..., tuple[Tensor, ...]]


@dataclass(eq=False)
class Places:
    """What all segments of a network share: where captured outputs lie, and where gradients of weights add up."""

    parameters: Sequence[nn.Parameter]
    outputs: set[int] = field(default_factory=set)
    sums: dict[nn.Parameter, Tensor] = field(default_factory=dict)
    anchor: Tensor | None = None

    def begin(self) -> None:
        """Before a forward pass: gradients of weights that were set to None begin at zero, others are kept."""
        empty: list[Tensor] = []
        for parameter in self.parameters:
            held = self.sums.get(parameter)
            if held is None:
                held = self.sums[parameter] = torch.zeros_like(parameter)
            found = parameter.grad
            if found is held:
                continue
            if found is None:
                empty.append(held)
            else:
                held.copy_(found)
            parameter.grad = held
        if empty:
            # A few kernels for all of them.
            torch._foreach_zero_(empty)

    def leaf(self, like: Tensor) -> Tensor:
        """What makes the outputs of a segment ask for gradients whose inputs do not."""
        if self.anchor is None or self.anchor.device != like.device:
            self.anchor = torch.zeros((), device=like.device, requires_grad=True)
        return self.anchor


class GraphedSegment:
    """`call` on tensors of one kind, captured with its backward pass at the first call.

    `parameters` are those that `call` reads, `state` the tensors that it changes, `varying` the numbers of the inputs
    that do not always come from the same segment. A call whose capture fails, or whose replay differs, runs plain from
    then on, and a BcgraphWarning says so; `name` says what it is.
    """

    def __init__(
        self,
        call: Call,
        parameters: Sequence[nn.Parameter],
        state: Callable[[], Iterable[Tensor]],
        capture: Capture,
        places: Places,
        name: str,
        varying: Collection[int] = (),
    ) -> None:
        self.call = call
        self.parameters = [p for p in parameters if p.requires_grad]
        self.state = state
        self.capture = capture
        self.places = places
        self.name = name
        self.varying = frozenset(varying)
        self.inputs: tuple[Tensor, ...] = ()
        self._places: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self.latest: tuple[Tensor, ...] = ()
        self.gradients: dict[int, Tensor] = {}
        self.forward: Run | None = None
        self.backward: Run | None = None
        self.failed = False

    @property
    def tried(self) -> bool:
        """Whether the capture was made, or has failed."""
        return self.failed or self.forward is not None

    def replay(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs of the captured call for `inputs`, in tensors that the next replay writes over."""
        assert self.forward is not None
        for place, value in zip(self._places, inputs, strict=True):
            if place.data_ptr() != value.data_ptr():
                place.copy_(value.detach(), non_blocking=True)
        for place, value in zip(self.outputs, self.forward(), strict=True):
            # A stand-in for a capture gives other tensors at each call.
            if place.data_ptr() != value.data_ptr():
                place.copy_(value.detach())
        return self.outputs

    def replay_backward(self, gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs from those of the outputs; those of the weights are added to their sums."""
        assert self.backward is not None
        for index, place in self.gradients.items():
            given = gradients[index]
            if given is None:
                place.zero_()
            else:
                place.copy_(given)
        found = iter(self.backward())
        return tuple(next(found) if x.requires_grad else None for x in self.inputs)

    def _forward(self) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            self.latest = self.call(*self.inputs)
        return self.latest

    def _backward(self) -> tuple[Tensor, ...]:
        asked = [x for x in self.inputs if x.requires_grad]
        outputs = [self.latest[index] for index in self.gradients]
        wanted = [*asked, *self.parameters]
        # A backward pass runs without autocast, also where it is captured in the middle of a forward pass. The graph of
        # autograd stays, and with it the memory that the captured passes share.
        with torch.autocast(self.inputs[0].device.type, enabled=False):
            found = torch.autograd.grad(
                outputs, wanted, list(self.gradients.values()), retain_graph=True, allow_unused=True
            )
        for parameter, gradient in zip(self.parameters, found[len(asked) :], strict=True):
            if gradient is not None:
                self.places.sums[parameter].add_(gradient)
        return tuple(torch.zeros_like(x) if g is None else g for x, g in zip(asked, found[: len(asked)], strict=True))

    def record(self, inputs: Sequence[Tensor]) -> None:
        """Capture the call for inputs like these, which ask for gradients or not."""
        device = inputs[0].device
        self.inputs = tuple(self._place(index, x) for index, x in enumerate(inputs))
        self._places = tuple(x.detach() for x in self.inputs)
        # Autograd may hold running statistics, which its backward pass does not read: to it nothing has changed.
        changed = [*(s.data for s in self.state()), *(self.places.sums[p] for p in self.parameters)]
        kept = Kept(lambda: changed)
        with self.capture.warming(device):
            for _ in range(WARM_UPS):
                outputs = self._forward()
                self.gradients = {
                    index: torch.ones_like(o, memory_format=torch.preserve_format)
                    for index, o in enumerate(outputs)
                    if o.requires_grad
                }
                self._backward()
                kept.restore()
        plain, again = (self._effect(kept, self._forward, self._backward) for _ in range(2))
        try:
            self.forward = self.capture.record(self._forward, device)
            self.backward = self.capture.record(self._backward, device)
            replay = self._effect(kept, self.forward, self.backward)
            # Where these lie is where they always will.
            self.outputs = tuple(o.detach() for o in self.latest)
            wrong = flaw(replay, plain, again, kept.values)
        # A call that cannot be captured fails in as many ways as there are operations.
        except RuntimeError as error:
            kept.restore()
            wrong = (str(error).strip() or repr(error)).splitlines()[0]
        if wrong is None:
            self.places.outputs.update(o.data_ptr() for o in self.outputs)
            return
        self.failed = True
        self.latest = self.outputs = self.inputs = self._places = ()
        self.forward = self.backward = None
        warnings.warn(BcgraphWarning(f"{self.name} runs without CUDA graphs: {wrong}"), stacklevel=4)

    def _effect(self, kept: Kept, forward: Run, backward: Run) -> Effect:
        """What both passes give and leave, after which everything is as it was."""
        # One by one, so that all draw the same numbers.
        with self.capture.warming(self.inputs[0].device):
            outputs = [x.detach().clone() for x in (*forward(), *backward())]
            effect = Effect(outputs, Kept(kept.state).values)
            kept.restore()
        return effect

    def _place(self, index: int, x: Tensor) -> Tensor:
        if x.data_ptr() in self.places.outputs and index not in self.varying:
            place = x.detach()
        else:
            place = x.detach().clone(memory_format=torch.preserve_format)
        return place.requires_grad_(x.requires_grad)
