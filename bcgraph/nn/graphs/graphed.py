"""A call that is captured for each kind of inputs and then replayed.

The first call of a kind runs plain, and the second is captured: the last batch of a single pass comes only once. A
capture needs calls before it, which update running statistics, weights and whatever else the call changes. All of that
is restored. At the first uses of a capture its result and all that it changes are compared with two plain calls. A call
whose capture fails, or whose replay differs, runs plain from then on, and a BcgraphWarning says so.

Calls that exchange tensors with other processes are captured, compared and given up in all of them or in none: one that
replayed while another ran plain would wait for ever. NCCL asks for it, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar, get_args

import torch
from torch import Tensor

from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.memory import ran_out
from bcgraph.nn.graphs.capture import Run
from bcgraph.nn.graphs.comparison import Effect, Kept, flaw
from bcgraph.nn.graphs.recordings import Recordings

T = TypeVar("T")

Graphs: TypeAlias = Literal["auto", "on", "off"]
"""Whether calls on a GPU are captured: where a replay agrees with a plain call, or else is an error, or never."""

GRAPHS: tuple[str, ...] = get_args(Graphs)

Agreed: TypeAlias = Callable[[str | None], str | None]
"""Takes what is wrong in this process, or None; gives what is wrong in the first process where something is."""

WARM_UPS = 2
"""Plain calls before a capture."""

COMPARED = 2
"""Uses of a capture that are compared with plain calls. A number that was baked in shows at the second."""


class _Recorded:
    """A captured call with the tensors that it reads; how many of its uses were compared."""

    def __init__(self, inputs: tuple[Tensor, ...], replay: Run) -> None:
        self.inputs = inputs
        self.replay = replay
        self.compared = 0

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for place, value in zip(self.inputs, inputs, strict=True):
            place.copy_(value, non_blocking=True)
        return tuple(output.clone() for output in self.replay())

    def release(self) -> None:
        """Give up the capture, whoever still holds this object, such as the traceback of an error."""
        self.replay = _released


def _released() -> tuple[Tensor, ...]:
    raise AssertionError("a capture is replayed that was given up")


@dataclass(frozen=True)
class _Flaw:
    """In place of a capture: what is wrong with it."""

    wrong: str


_ONCE, _PLAIN = "once", "plain"
"""In place of a capture: of a kind of call that came once, and of one whose capture has failed."""

_TWO = 2
"""Plain calls that a replay is compared with: what they differ in themselves is no fault of the replay."""


class Graphed:
    """`run` on tensors of one device, captured once for each key and kind of inputs.

    `run` takes tensors and gives a tuple of tensors. `state` gives all tensors that it changes; those that appear in
    the first calls (as an optimizer's) are as if they were zero before. `name` says in warnings what runs. With
    `required` a capture that fails or differs is an error instead of a warning.

    A `run` that exchanges tensors with other processes needs `agreed`, by which they agree, and recordings of its own.
    Then nothing depends on one process alone: the key must say all that tells calls apart, and calls of one key have
    inputs of one kind.
    """

    def __init__(
        self,
        run: Callable[..., tuple[Tensor, ...]],
        state: Callable[[], Iterable[Tensor]],
        recordings: Recordings,
        name: str,
        *,
        required: bool = False,
        agreed: Agreed | None = None,
    ) -> None:
        self.run = run
        self.state = state
        self.recordings = recordings
        self.capture = recordings.capture
        self.name = name
        self.required = required
        self.agreed = agreed
        self.number = recordings.register(self)

    def __call__(self, key: Hashable, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `run` gives for `inputs`. `key` tells apart calls that differ in more than the kind of their inputs.

        Raises RunError (E074) for a capture that is required and fails, in all processes that share the call.
        """
        device = inputs[0].device
        if not self.capture.takes(device):
            return self.run(*inputs)
        whole = key if self.agreed is not None else (key, *self._kind(inputs))
        with self.recordings.lock:
            found = self.recordings.get(self.number, whole)
            if found is None:
                self.recordings.make_room()
                self.recordings.keep(self.number, whole, _ONCE)
            elif found is _ONCE:
                found = self._recorded(inputs)
                self.recordings.keep(self.number, whole, found)
                if isinstance(found, _Flaw):
                    found = self._given_up(whole, found)
            if isinstance(found, _Recorded) and found.compared < COMPARED:
                wrong = self._compared(found, inputs)
                found.compared += 1
                if wrong is not None:
                    found.release()
                    found = self._given_up(whole, _Flaw(wrong))
            return found(inputs) if isinstance(found, _Recorded) else self.run(*inputs)

    def release(self) -> None:
        """Give up all captures, and with them their memory and what they hold of a process group."""
        for found in self.recordings.drop(self.number):
            if isinstance(found, _Recorded):
                found.release()

    def _kind(self, inputs: tuple[Tensor, ...]) -> tuple[Hashable, ...]:
        device = inputs[0].device
        return (
            self.capture.place(device),
            settings(device),
            *((tuple(x.shape), x.stride(), x.dtype, x.device) for x in inputs),
        )

    def _recorded(self, inputs: tuple[Tensor, ...]) -> _Recorded | _Flaw:
        device = inputs[0].device

        def copied() -> tuple[tuple[Tensor, ...], Kept]:
            with torch.inference_mode(False):
                static = tuple(x.detach().clone(memory_format=torch.preserve_format) for x in inputs)
            with self.capture.warming(device):
                return static, Kept(self.state)

        begun = self._tried(copied, ran_out)
        if isinstance(begun, _Flaw):
            return begun
        static, kept = begun

        def run() -> tuple[Tensor, ...]:
            return self.run(*static)

        try:
            with self.capture.warming(device):
                for _ in range(WARM_UPS):
                    run()
                    kept.restore()
        except RuntimeError as error:
            kept.restore()
            if not ran_out(error):
                raise
            return _Flaw(self._said_alone(error))
        # A call that cannot be captured fails in as many ways as there are operations.
        replay = self._tried(lambda: self.capture.record(run, device), lambda _: True)
        if isinstance(replay, _Flaw):
            kept.restore()
            return replay
        return _Recorded(static, replay)

    def _compared(self, found: _Recorded, inputs: tuple[Tensor, ...]) -> str | None:
        """What is wrong with a capture on these inputs, or None. Leaves everything as it was."""

        def state() -> Kept:
            with self.capture.warming(inputs[0].device):
                return Kept(self.state)

        kept = self._tried(state, ran_out)
        if isinstance(kept, _Flaw):
            return kept.wrong
        effects: list[Effect] = []
        calls: list[Run] = [*[lambda: self.run(*inputs)] * _TWO, lambda: found(inputs)]
        try:
            for call in calls:
                # One by one, so that all draw the same numbers.
                with self.capture.warming(inputs[0].device):
                    outputs = [output.detach().clone() for output in call()]
                    effects.append(Effect(outputs, Kept(self.state).values))
                    kept.restore()
        except RuntimeError as error:
            kept.restore()
            # There may be room for plain calls, and none for a capture beside them.
            if len(effects) < _TWO and not ran_out(error):
                raise
            return self._said_alone(error)
        plain, again, replay = effects
        wrong = self._tried(lambda: flaw(replay, plain, again, kept.values), ran_out)
        if isinstance(wrong, _Flaw):
            return wrong.wrong
        return wrong if self.agreed is None else self.agreed(wrong)

    def _tried(self, action: Callable[[], T], expected: Callable[[RuntimeError], bool]) -> T | _Flaw:
        """What `action` gives, or what is wrong with it, in this process or in another. It waits for no other one."""
        result: T | None = None
        wrong: str | None = None
        try:
            result = action()
        except RuntimeError as error:
            if not expected(error):
                raise
            wrong = _line(error)
        if self.agreed is not None:
            wrong = self.agreed(wrong)
        return result if wrong is None else _Flaw(wrong)  # type: ignore[return-value]

    def _said_alone(self, error: RuntimeError) -> str:
        """What is wrong with a call that has failed in the middle.

        Of several processes the others may be there, too, and wait. Then nothing can be agreed upon any more, and this
        one raises an error, as where a plain call fails.
        """
        if self.agreed is None:
            return _line(error)
        raise self._refusal(_line(error)) if self.required else error

    def _refusal(self, wrong: str) -> RunError:
        return RunError(
            "E074",
            f"{self.name} cannot run as a CUDA graph: {wrong}",
            hint="without `--graphs on` it runs, only slower",
        )

    def _given_up(self, whole: Hashable, found: _Flaw) -> str:
        self.recordings.keep(self.number, whole, _PLAIN)
        if self.required:
            raise self._refusal(found.wrong)
        warnings.warn(BcgraphWarning(f"{self.name} runs without CUDA graphs: {found.wrong}"), stacklevel=3)
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
