"""A call that is captured for each kind of inputs and then replayed.

The first call of a kind runs plain, and the second is captured: the last batch of a single pass comes only once. A
capture needs calls before it, which update running statistics, weights and whatever else the call changes. All of that
is restored. At the first uses of a capture its result and all that it changes are compared with two plain calls. A call
whose capture fails, or whose replay differs, runs plain from then on, and a BcgraphWarning says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.memory import ran_out
from bcgraph.nn.graphs.capture import Run
from bcgraph.nn.graphs.comparison import Effect, Kept, flaw
from bcgraph.nn.graphs.recordings import Recordings

Graphs: TypeAlias = Literal["auto", "on", "off"]
"""Whether calls on a GPU are captured: where a replay agrees with a plain call, or else is an error, or never."""

GRAPHS: tuple[str, ...] = get_args(Graphs)

WARM_UPS = 2
"""Plain calls before a capture."""

COMPARED = 2
"""Uses of a capture that are compared with plain calls. A number that was baked in shows at the second."""


class _Recorded:
    """A captured call with the tensors that it reads; how many uses are still to be compared."""

    def __init__(self, inputs: tuple[Tensor, ...], replay: Run) -> None:
        self.inputs = inputs
        self.replay = replay
        self.compared = 0

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for place, value in zip(self.inputs, inputs, strict=True):
            place.copy_(value, non_blocking=True)
        return tuple(output.clone() for output in self.replay())


_ONCE, _PLAIN = "once", "plain"
"""In place of a capture: of a kind of call that came once, and of one whose capture has failed."""

_TWO = 2
"""Plain calls that a replay is compared with: what they differ in themselves is no fault of the replay."""


class Graphed:
    """`run` on tensors of one device, captured once for each key and kind of inputs.

    `run` takes tensors and gives a tuple of tensors. `state` gives all tensors that it changes; those that appear in
    the first calls (as an optimizer's) are as if they were zero before. `name` says in warnings what runs. With
    `required` a capture that fails or differs is an error instead of a warning.
    """

    def __init__(
        self,
        run: Callable[..., tuple[Tensor, ...]],
        state: Callable[[], Iterable[Tensor]],
        recordings: Recordings,
        name: str,
        *,
        required: bool = False,
    ) -> None:
        self.run = run
        self.state = state
        self.recordings = recordings
        self.capture = recordings.capture
        self.name = name
        self.required = required
        self.number = recordings.register(self)

    def __call__(self, key: Hashable, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `run` gives for `inputs`. `key` tells apart calls that differ in more than the kind of their inputs.

        Raises RunError (E074) for a capture that is required and fails.
        """
        device = inputs[0].device
        if not self.capture.takes(device):
            return self.run(*inputs)
        whole = (
            key,
            self.capture.place(device),
            settings(device),
            *((tuple(x.shape), x.stride(), x.dtype, x.device) for x in inputs),
        )
        with self.recordings.lock:
            found = self.recordings.get(self.number, whole)
            if found is None:
                self.recordings.make_room()
                self.recordings.keep(self.number, whole, _ONCE)
            elif found is _ONCE:
                found = self._recorded(inputs)
                self.recordings.keep(self.number, whole, found)
            if isinstance(found, _Recorded) and found.compared < COMPARED:
                wrong = self._compared(found, inputs)
                found.compared += 1
                if wrong is not None:
                    found = self._plain(wrong)
                    self.recordings.keep(self.number, whole, found)
            return found(inputs) if isinstance(found, _Recorded) else self.run(*inputs)

    def _recorded(self, inputs: tuple[Tensor, ...]) -> _Recorded | str:
        with torch.inference_mode(False):
            static = tuple(x.detach().clone(memory_format=torch.preserve_format) for x in inputs)

        def run() -> tuple[Tensor, ...]:
            return self.run(*static)

        device, kept, warm = static[0].device, None, False
        try:
            with self.capture.warming(device):
                kept = Kept(self.state)
                for _ in range(WARM_UPS):
                    run()
                    kept.restore()
            warm = True
            return _Recorded(static, self.capture.record(run, device))
        # A call that cannot be captured fails in as many ways as there are operations.
        except RuntimeError as error:
            if kept is not None:
                kept.restore()
            if not (warm or ran_out(error)):
                raise
            return self._plain(_line(error))

    def _compared(self, found: _Recorded, inputs: tuple[Tensor, ...]) -> str | None:
        """What is wrong with a capture on these inputs, or None. Leaves everything as it was."""
        kept: Kept | None = None
        effects: list[Effect] = []
        calls: list[Run] = [*[lambda: self.run(*inputs)] * _TWO, lambda: found(inputs)]
        try:
            with self.capture.warming(inputs[0].device):
                kept = Kept(self.state)
            for call in calls:
                # One by one, so that all draw the same numbers.
                with self.capture.warming(inputs[0].device):
                    outputs = [output.detach().clone() for output in call()]
                    effects.append(Effect(outputs, Kept(self.state).values))
                    kept.restore()
        except RuntimeError as error:
            if kept is not None:
                kept.restore()
            # There may be room for plain calls, and none for a capture beside them.
            if len(effects) < _TWO and not ran_out(error):
                raise
            return _line(error)
        plain, again, replay = effects
        return flaw(replay, plain, again, kept.values)

    def _plain(self, wrong: str) -> str:
        if self.required:
            raise RunError(
                "E074",
                f"{self.name} cannot run as a CUDA graph: {wrong}",
                hint="without `--graphs on` it runs, only slower",
            )
        warnings.warn(BcgraphWarning(f"{self.name} runs without CUDA graphs: {wrong}"), stacklevel=4)
        return _PLAIN


def _line(error: RuntimeError) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


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
