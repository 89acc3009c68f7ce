"""Running an exported network with onnxruntime: numpy in, numpy out, no torch.

onnxruntime keeps nothing between two calls, so a network in `step` form takes its states as inputs and hands the next
ones back; `Network` carries them from step to step and starts every batch from zero.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bcgraph import foreign, seals
from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.memory import exhausted, ran_out
from bcgraph.signature import (
    Floats,
    Signature,
    as_array,
    changed,
    check_finite,
    classes_of,
    first_line,
    float32,
    read_signature,
)

if TYPE_CHECKING:
    import onnxruntime


class Network:
    """An exported network, ready to run.

    `Network(path)` raises RunError (E087) when the file is missing, damaged, or was not written by bcgraph.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self.path = Path(path)
        self._threads = threads
        self._session = _session(self.path, threads)
        self.signature = read_signature(self.path, self._session.get_modelmeta().custom_metadata_map)
        self._names: list[str] = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._zeros: tuple[int, dict[str, onnxruntime.OrtValue]] = (0, {})
        _check_states(self.path, self.signature, self._session)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, as in another process, reads the file again: a session of onnxruntime cannot be copied."""
        return partial(type(self), threads=self._threads), (self.path.absolute(),)

    @property
    def input(self) -> str:
        """The name of the input that is not a state."""
        return self._names[0]

    def __call__(self, inputs: Floats) -> Floats:
        """The output `O`, `[T, N, classes]`.

        `inputs` are `[N, C, H, W]` for a static image and `[T, N, C, H, W]` for a sequence. Raises RunError (E090)
        when they have another shape.
        """
        values = self.signature.checked(inputs)
        try:
            if self.signature.form == "step":
                return all_steps(self, values)
            (result,) = self._session.run(self._outputs[:1], {self._names[0]: values})
            return np.asarray(result)
        except _runtime_errors() as error:
            raise _unrunnable(self.path, error) from error

    def predict(self, inputs: Floats) -> NDArray[np.int64]:
        """The class of each sample `[N]`: the arg max of what the readout makes of `O`."""
        return classes_of(self(inputs), self.signature.readout, self.path)

    def stream(self) -> Stream:
        """One stream of frames, with its own states. Raises RunError (E087) for a file of another form than `step`."""
        if self.signature.form != "step":
            raise RunError(
                "E087",
                f"`{self.path}` computes all steps in one call, so it cannot be fed one frame at a time",
                hint="compile the network again with --form step",
            )
        return Stream(self)

    def step(self, frame: Floats, states: dict[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
        """One step of a file in `step` form: O_t `[N, classes]` and the next states, by the names of their inputs.

        Raises RunError (E090) when a state is missing or has another shape, and for values that are not finite.
        """
        frame = float32(as_array(frame))
        check_finite(frame)
        for name, _, shape in self.signature.states:
            wanted, given = [len(frame), *shape], list(np.shape(states[name])) if name in states else None
            if given != wanted:
                found = "missing" if given is None else f"{given}"
                raise RunError("E090", f"the state `{name}` is {wanted} for these frames, but the one given is {found}")
        before = {name: float32(states[name]) for name, _, _ in self.signature.states}
        for values in before.values():
            check_finite(values)
        try:
            results = self._session.run(None, {self._names[0]: frame, **before})
        except _runtime_errors() as error:
            raise _unrunnable(self.path, error) from error
        named = dict(zip(self._outputs, map(np.asarray, results), strict=True))
        return named[self._outputs[0]], {name: named[following] for name, following, _ in self.signature.states}

    def zeros(self, batch: int) -> dict[str, Floats]:
        """The states that every sample starts from, by the names of their inputs."""
        return {name: np.zeros((batch, *shape), np.float32) for name, _, shape in self.signature.states}

    def begin(self, batch: int) -> dict[str, onnxruntime.OrtValue]:
        """The states that every sample starts from, where onnxruntime has them.

        onnxruntime reads them alone, so they are one block of zeros, which the next call of as many samples reads too.
        """
        # Read once: another thread may put those of other batches in their place.
        known, held = self._zeros
        if known != batch:
            sizes = {name: (batch, *shape) for name, _, shape in self.signature.states}
            block = np.zeros(max(map(math.prod, sizes.values()), default=0), np.float32)
            held = {name: _held(block[: math.prod(size)].reshape(size)) for name, size in sizes.items()}
            self._zeros = (batch, held)
        return dict(held)

    def advance(
        self, frame: Floats, states: dict[str, onnxruntime.OrtValue]
    ) -> tuple[Floats, dict[str, onnxruntime.OrtValue]]:
        """One step like `step`, whose states stay where onnxruntime has them: they are not copied in or out."""
        try:
            results = self._session.run_with_ort_values(self._outputs, {self.input: _held(frame), **states})
        except _runtime_errors() as error:
            raise _unrunnable(self.path, error) from error
        named = dict(zip(self._outputs, results, strict=True))
        after = {name: named[following] for name, following, _ in self.signature.states}
        return np.asarray(results[0].numpy()), after


class Stepped(Protocol):
    """What a stream needs of a network: its signature, where every sample starts from, and one step."""

    signature: Signature

    def begin(self, batch: int) -> dict[str, Any]:
        """The states that every sample starts from."""
        ...

    def advance(self, frame: Floats, states: dict[str, Any]) -> tuple[Floats, dict[str, Any]]:
        """O_t `[N, classes]` and the next states."""
        ...


class Runnable(Stepped, Protocol):
    """What runs a file of any kind that bcgraph has written."""

    path: Path

    def __call__(self, inputs: Floats) -> Floats:
        """The output `O`, `[T, N, classes]`."""
        ...

    def predict(self, inputs: Floats) -> NDArray[np.int64]:
        """The class of each sample `[N]`."""
        ...

    def stream(self) -> Stream:
        """One stream of frames, with its own states."""
        ...


@dataclass(frozen=True)
class Latency:
    """Milliseconds of single calls: the median, and within which 95 % of them stay."""

    median: float
    slow: float

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        """The latency of calls that took so many seconds each."""
        median, slow = (1000 * float(np.percentile(seconds, p)) for p in (50, 95))
        return cls(median, slow)


@dataclass
class Stream:
    """A stream of frames through a network in `step` form: the states go from frame to frame.

    `seconds` are what each call of onnxruntime took.
    """

    network: Stepped
    frames: int = 0
    seconds: list[float] = field(default_factory=list)
    _states: dict[str, Any] = field(default_factory=dict)
    _total: Floats | None = None

    def push(self, frame: Floats) -> Floats:
        """Feed one frame `[C, H, W]`; the readout over all frames so far, `[classes]`.

        With the readout `mean` that is the mean of the outputs, with `last` the newest. Raises RunError (E090) for a
        frame of another shape or type, or with values that are not finite: they would stay in the states for ever.
        """
        signature = self.network.signature
        wanted = signature.input.shape
        given = as_array(frame)
        if given.shape != wanted or given.dtype.kind not in "fiub":
            raise RunError(
                "E090", f"a frame is {list(wanted)} of numbers, but this is {list(given.shape)} of {given.dtype}"
            )
        values = float32(given[None])
        check_finite(values)
        if not self.frames:
            self._states = self.network.begin(1)
        started = time.perf_counter()
        output, self._states = self.network.advance(values, self._states)
        self.seconds.append(time.perf_counter() - started)
        self.frames += 1
        if signature.readout == "last":
            return np.asarray(output[0])
        total = output[0] if self._total is None else self._total + output[0]
        self._total = total
        return np.asarray(total / self.frames)

    def reset(self) -> None:
        """Begin a new sequence: zero states, nothing read out."""
        self.frames, self._total = 0, None


def all_steps(network: Stepped, inputs: Floats) -> Floats:
    """The output `O` `[T, N, classes]` of a network that is run step by step, for inputs that are `checked`."""
    sequence = network.signature.input.kind == "sequence"
    states = network.begin(inputs.shape[1 if sequence else 0])
    collected = []
    for step in range(network.signature.steps):
        output, states = network.advance(inputs[step] if sequence else inputs, states)
        collected.append(output)
    return np.stack(collected)


def predictions(
    network: Runnable, inputs: Floats, *, batch: int = 256, on_batch: Callable[[int], object] | None = None
) -> tuple[NDArray[np.int64], float]:
    """The class of each sample `[N]`, and the seconds that the network took for them.

    `inputs` are those of `Network`, fed in batches; `on_batch(n)` is called after every n samples.
    """
    axis = 1 if network.signature.input.kind == "sequence" else 0
    found: list[NDArray[np.int64]] = []
    seconds = 0.0
    for start in range(0, inputs.shape[axis], batch):
        values = np.take(inputs, range(start, min(start + batch, inputs.shape[axis])), axis=axis)
        started = time.perf_counter()
        found.append(network.predict(values))
        seconds += time.perf_counter() - started
        if on_batch is not None:
            on_batch(len(found[-1]))
    return np.concatenate(found), seconds


def latency(network: Runnable, inputs: Floats, *, calls: int = 50, limit: float = 2.0) -> Latency:
    """How long the network takes for one sample alone, over up to `calls` samples or `limit` seconds."""
    axis = 1 if network.signature.input.kind == "sequence" else 0
    seconds: list[float] = []
    network.predict(np.take(inputs, [0], axis=axis))
    while len(seconds) < calls and sum(seconds) < limit:
        values = np.take(inputs, [len(seconds) % inputs.shape[axis]], axis=axis)
        started = time.perf_counter()
        network.predict(values)
        seconds.append(time.perf_counter() - started)
    return Latency.of(seconds)


def _held(values: Floats) -> onnxruntime.OrtValue:
    """An array as onnxruntime holds it; the memory is shared."""
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values))


def _session(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    content = _content(path)
    rewritten = seals.intact(content) is False
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _runtime_errors() as error:
        if ran_out(error):
            raise exhausted(error) from error
        reason = first_line(error)
        if "opset" in reason.lower() or "ir version" in reason.lower():
            raise RunError(
                "E087",
                f"`{path}` is of a newer ONNX version than this onnxruntime knows",
                notes=(reason,),
                hint="install a newer onnxruntime, or compile the network again",
            ) from None
        raise RunError("E087", f"`{path}` is damaged, or no ONNX file", notes=(reason,)) from None
    if rewritten:
        message = f"`{path}` is not as bcgraph wrote it: a tool has changed it, and what was proved of it need not hold"
        warnings.warn(message, BcgraphWarning, stacklevel=3)
    return session


def _content(path: Path) -> bytes:
    """The bytes of a file. Raises RunError (E087) when it cannot be read, or has other bits than were sealed."""
    try:
        content = foreign.read(path)
    except OSError as error:
        raise RunError("E087", f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    except foreign.UnreadableError as error:
        raise RunError("E087", f"`{path}` cannot be read: {error}") from None
    if seals.intact(content) is False and not seals.rewritten(content):
        raise changed(path)
    return content


def _check_states(path: Path, signature: Signature, session: onnxruntime.InferenceSession) -> None:
    inputs, outputs = session.get_inputs(), [value.name for value in session.get_outputs()]
    states = signature.states if signature.form == "step" else ()
    fed = signature.input.shape
    names = [name for name, _, _ in states]
    shapes = [fed, *(shape for _, _, shape in states)]
    described = len(inputs) == len(shapes) and all(
        tuple(value.shape)[len(value.shape) - len(shape) :] == shape
        for value, shape in zip(inputs, shapes, strict=True)
    )
    if not described or [v.name for v in inputs[1:]] != names or outputs[1:] != [name for _, name, _ in states]:
        raise RunError("E087", f"`{path}` has metadata that do not describe its inputs and outputs")


def _unrunnable(path: Path, error: Exception) -> RunError:
    """The error for `error`, which running a file has raised: E094 where memory ran out, else E087."""
    return exhausted(error) if ran_out(error) else RunError("E087", f"`{path}` cannot be run: {first_line(error)}")


def _runtime_errors() -> tuple[type[Exception], ...]:
    # onnxruntime's exceptions have no common public base; all of them live in its extension module.
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
