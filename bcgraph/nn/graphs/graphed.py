"""A call that is captured for each kind of inputs and then replayed.

A capture needs calls before it, which update running statistics, weights and whatever else the call changes. All of
that is restored, so the first replay is the first call. Its result is compared with that of a plain call; a call whose
capture fails, or whose replay differs, runs plain from then on, and a BcgraphWarning says so.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
from torch import Tensor

from bcgraph.errors import BcgraphWarning
from bcgraph.nn.graphs.capture import Capture, Run

LIMIT = 8
"""Captures that are kept: whole and last batches of training and of evaluation are four."""

WARM_UPS = 2
"""Plain calls before the one that a capture is compared with."""


class _Recorded:
    """A captured call with the tensors that it reads."""

    def __init__(self, inputs: tuple[Tensor, ...], replay: Run) -> None:
        self.inputs = inputs
        self.replay = replay

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for place, value in zip(self.inputs, inputs, strict=True):
            place.copy_(value, non_blocking=True)
        return tuple(output.clone() for output in self.replay())


class Graphed:
    """`run` on tensors of one device, captured once for each key and kind of inputs.

    `run` takes tensors and gives a tuple of tensors. `state` gives all tensors that it changes; those that appear in
    the first calls (as an optimizer's) are as if they were zero before. `name` says in warnings what runs.
    """

    def __init__(
        self,
        run: Callable[..., tuple[Tensor, ...]],
        state: Callable[[], Iterable[Tensor]],
        capture: Capture,
        name: str,
        limit: int = LIMIT,
    ) -> None:
        self.run = run
        self.state = state
        self.capture = capture
        self.name = name
        self.limit = limit
        # None where a capture has failed.
        self.recorded: OrderedDict[Hashable, _Recorded | None] = OrderedDict()

    def __call__(self, key: Hashable, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `run` gives for `inputs`. `key` tells apart calls that differ in more than the kind of their inputs."""
        if not self.capture.takes(inputs[0].device):
            return self.run(*inputs)
        whole = (key, settings(inputs[0].device), *((tuple(x.shape), x.stride(), x.dtype, x.device) for x in inputs))
        if whole not in self.recorded:
            while len(self.recorded) >= self.limit:
                self.recorded.popitem(last=False)
            self.recorded[whole] = self._record(inputs)
        self.recorded.move_to_end(whole)
        found = self.recorded[whole]
        return self.run(*inputs) if found is None else found(inputs)

    def _record(self, inputs: tuple[Tensor, ...]) -> _Recorded | None:
        with torch.inference_mode(False):
            static = tuple(x.detach().clone(memory_format=torch.preserve_format) for x in inputs)

        def run() -> tuple[Tensor, ...]:
            return self.run(*static)

        device = static[0].device
        with self.capture.warming(device):
            kept = _Kept(self.state)
            for _ in range(WARM_UPS):
                run()
                kept.restore()
        # A run of its own for each, so that both draw the same numbers.
        with self.capture.warming(device):
            wanted = [output.detach().clone() for output in run()]
            changed = _Kept(self.state)
            kept.restore()
        try:
            found = _Recorded(static, self.capture.record(run))
            with self.capture.warming(device):
                given = found(static)
                flaw = _difference([*given, *self.state()], [*wanted, *changed.values])
        # A call that cannot be captured fails in as many ways as there are operations.
        except RuntimeError as error:
            flaw = str(error).strip().splitlines()[0]
        kept.restore()
        if flaw is None:
            return found
        text = f"{self.name} runs without CUDA graphs: {flaw}"
        warnings.warn(BcgraphWarning(text), stacklevel=4)
        return None


class _Kept:
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


def _difference(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> str | None:
    """What is wrong with a replay, or None. Kernels that add in any order may differ in the last bits."""
    if len(given) != len(wanted):
        return "its replay changes other tensors than a plain call"
    for ours, theirs in zip(given, wanted, strict=True):
        exact = not ours.is_floating_point()
        close = {torch.float64: 1e-9, torch.float32: 1e-3}.get(ours.dtype, 5e-2)
        scale = 0.0 if exact or not theirs.numel() else float(theirs.abs().nan_to_num(posinf=0.0).max())
        same = torch.equal(ours, theirs) or (
            not exact and torch.allclose(ours, theirs, rtol=close, atol=close * scale, equal_nan=True)
        )
        if not same:
            return "a replay gives other numbers than a plain call"
    return None


def settings(device: torch.device) -> Hashable:
    """What torch is set to that decides which kernels a call runs."""
    autocast = torch.is_autocast_enabled(device.type)
    cudnn = torch.backends.cudnn
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_autocast_dtype(device.type) if autocast else None,
        cudnn.deterministic,
        cudnn.benchmark,
        cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision,
    )
