"""Running a NIR file step by step: what its proof runs, and `bcgraph run net.nir`.

In each step the nodes run in the order of their names. What a node reads is the sum over its edges; an edge whose
source does not stand before its target carries the value of the step before, and nothing in the first step. Neurons
take one step of forward Euler, fire where the membrane is above the threshold, and are reset. All of it in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bcgraph import seals
from bcgraph.compiler.targets.nir import reading
from bcgraph.errors import RunError
from bcgraph.runtime import Stream, all_steps
from bcgraph.signature import Floats, Signature, changed, classes_of, read_signature

State = dict[str, Tensor]


class Network:
    """A NIR file that bcgraph has written, as `runtime.Network` is an ONNX file.

    Raises RunError (E087) when the file is missing, damaged, foreign, or holds a node that is not known here.
    """

    def __init__(self, path: str | Path, data: bytes | None = None) -> None:
        self.path = Path(path)
        graph = _read(self.path, data)
        self.signature: Signature = read_signature(self.path, graph.metadata)
        try:
            self._dt = float(graph.metadata["bcgraph.dt"])
        except (KeyError, ValueError):
            raise RunError("E087", f"`{path}` has damaged metadata", notes=("no length of a step",)) from None
        self._steps = Steps(self.path, graph, self._dt, sorted(graph.nodes))
        self._check_shapes(graph)

    def __call__(self, inputs: Floats) -> Floats:
        """The output `O`, `[T, N, classes]`, of `[N, C, H, W]`, or `[T, N, C, H, W]`. Raises RunError (E090)."""
        return all_steps(self, self.signature.checked(inputs))

    def predict(self, inputs: Floats) -> NDArray[np.int64]:
        """The class of each sample `[N]`: the arg max of what the readout makes of `O`."""
        return classes_of(self(inputs), self.signature.readout, self.path)

    def stream(self) -> Stream:
        """One stream of frames, with its own states."""
        return Stream(self)

    def begin(self, batch: int) -> State:
        """What every sample starts from: nothing has been computed yet."""
        return {}

    def advance(self, frame: Floats, states: State) -> tuple[Floats, State]:
        """One step: O_t `[N, classes]`, and what the next step reads of this one."""
        values, after = self.run(torch.from_numpy(np.ascontiguousarray(frame)), states)
        return values[self._steps.output].numpy(), after

    def run(self, frame: Tensor, states: State) -> tuple[dict[str, Tensor], State]:
        """One step: the value of every node by its name, and the states after it."""
        return self._steps.run(frame, states)

    @property
    def spikes(self) -> dict[str, str]:
        """For each layer of neurons, its name in the network and the name of its node."""
        return {node.label: name for name, node in self._steps.nodes.items() if node.neuron is not None}

    def _check_shapes(self, graph: Any) -> None:
        form = self.signature.input
        if tuple(map(int, graph.nodes["input"].output_type["output"])) != form.shape:
            raise RunError("E087", f"`{self.path}` has metadata that do not describe its inputs and outputs")


class Steps:
    """The nodes of a graph, run step by step in the order `order`; a step lasts `dt` seconds.

    Raises RunError (E087) for a node of a kind that is not known here.
    """

    def __init__(self, path: Path, graph: Any, dt: float, order: Sequence[str]) -> None:
        self.path = path
        self.nodes = {name: _node(path, name, graph.nodes[name], dt) for name in order}
        self.sources: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in graph.edges:
            self.sources[target].append(source)
        place = {name: i for i, name in enumerate(self.nodes)}
        self.late = {s for t, found in self.sources.items() for s in found if place[s] >= place[t]}
        self.output = next(n for n in self.nodes.values() if n.kind == "Output").name

    @torch.no_grad()
    def run(self, frame: Tensor, states: State) -> tuple[dict[str, Tensor], State]:
        """One step: the value of every node by its name, and the states after it."""
        values: dict[str, Tensor] = {}
        after: State = {}
        for name, node in self.nodes.items():
            reads = [values.get(s, states.get(s)) for s in self.sources[name]]
            present = [frame] if node.kind == "Input" else [r for r in reads if r is not None]
            # In the first step there is nothing on an edge that leads back.
            if not present:
                raise RunError("E087", f"`{self.path}` cannot be run: nothing reaches {node.label} in the first step")
            try:
                x = sum(present[1:], start=present[0])
                values[name] = node.run(x, states, after)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise RunError("E087", f"`{self.path}` cannot be run: {node.label}: {reason}") from None
        after.update({name: values[name] for name in self.late})
        return values, after


@dataclass(frozen=True)
class _Node:
    name: str
    kind: str
    label: str
    function: Callable[[Tensor], Tensor] | None
    neuron: _Neuron | None = None

    def run(self, x: Tensor, states: State, after: State) -> Tensor:
        if self.neuron is not None:
            before = {part: states[f"{self.name}.{part}"] for part in ("i", "v") if f"{self.name}.{part}" in states}
            sent, left = self.neuron.step(x, before)
            after.update({f"{self.name}.{part}": value for part, value in left.items()})
            return sent
        return x if self.function is None else self.function(x)


@dataclass(frozen=True)
class _Membrane:
    """One Euler step of a leaky integrator: `v*keep + gain*I + rest`."""

    keep: Tensor | float
    gain: Tensor
    rest: Tensor | float

    def step(self, current: Tensor, before: Tensor | None) -> Tensor:
        u = self.gain * current + self.rest
        return u if before is None else self.keep * before + u


@dataclass(frozen=True)
class _Neuron:
    """One Euler step: the synaptic current, if there is one, the membrane, then threshold and reset, if there are."""

    membrane: _Membrane
    synapse: _Membrane | None = None
    threshold: Tensor | None = None
    reset: Tensor | None = None

    def step(self, current: Tensor, before: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        after: dict[str, Tensor] = {}
        if self.synapse is not None:
            current = after["i"] = self.synapse.step(current, before.get("i"))
        u = self.membrane.step(current, before.get("v"))
        if self.threshold is None or self.reset is None:
            return u, {**after, "v": u}
        fired = u > self.threshold
        return fired.to(u.dtype), {**after, "v": torch.where(fired, self.reset, u)}


def _read(path: Path, data: bytes | None) -> Any:
    content = reading.content(path) if data is None else data
    if seals.intact(content) is False:
        raise changed(path)
    graph = reading.parse(path, content)
    kinds = [type(node).__name__ for node in getattr(graph, "nodes", {}).values()]
    if kinds.count("Output") != 1 or kinds.count("Input") != 1 or "input" not in graph.nodes:
        raise RunError("E087", f"`{path}` is no network with one input and one output")
    return graph


def _node(path: Path, name: str, node: Any, dt: float) -> _Node:
    kind = type(node).__name__
    if kind not in _MAKE:
        raise RunError("E087", f"`{path}` has a node `{name}` of the kind {kind}, which is not known here")
    made = _MAKE[kind](node, dt)
    label = str(node.metadata.get("bcgraph.name", name))
    return _Node(name, kind, label, None, made) if isinstance(made, _Neuron) else _Node(name, kind, label, made)


def _t(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))


def _pair(value: Any) -> tuple[int, int]:
    first, second = np.broadcast_to(np.asarray(value), (2,))
    return int(first), int(second)


def _identity(node: Any, dt: float) -> None:
    return None


def _conv(node: Any, dt: float) -> Callable[[Tensor], Tensor]:
    weight, bias = _t(node.weight), _t(node.bias)
    window = (_pair(node.stride), _pair(node.padding), _pair(node.dilation), int(node.groups))
    return lambda x: F.conv2d(x, weight, bias, *window)


def _conv_of_signal(node: Any, dt: float) -> Callable[[Tensor], Tensor]:
    weight, bias = _t(node.weight), _t(node.bias)
    window = (int(node.stride), int(node.padding), int(node.dilation), int(node.groups))
    return lambda x: F.conv1d(x, weight, bias, *window)


def _linear(node: Any, dt: float) -> Callable[[Tensor], Tensor]:
    weight, bias = _t(node.weight), _t(node.bias) if hasattr(node, "bias") else None
    return lambda x: F.linear(x, weight, bias)


def _scale(node: Any, dt: float) -> Callable[[Tensor], Tensor]:
    scale = _t(node.scale)
    return lambda x: x * scale


def _pool(node: Any, dt: float) -> Callable[[Tensor], Tensor]:
    kernel, stride, padding = _pair(node.kernel_size), _pair(node.stride), _pair(node.padding)
    return lambda x: F.avg_pool2d(x, kernel, stride, padding, divisor_override=1)


def _mean(node: Any, dt: float) -> Callable[[Tensor], Tensor]:
    kernel, stride, padding = _pair(node.kernel_size), _pair(node.stride), _pair(node.padding)
    return lambda x: F.avg_pool2d(x, kernel, stride, padding)


def _flatten(node: Any, dt: float) -> Callable[[Tensor], Tensor]:
    # The file counts axes without that of the samples.
    start, end = (int(i) + (1 if i >= 0 else 0) for i in (node.start_dim, node.end_dim))
    return lambda x: torch.flatten(x, start, end)


def _leaky(tau: Any, gain: Any, rest: Any, dt: float) -> _Membrane:
    """`tau dx/dt = (rest - x) + gain*I`, one step of forward Euler."""
    part = dt / _t(tau)
    return _Membrane(1 - part, part * _t(gain), part * _t(rest))


def _firing(neuron: _Neuron, node: Any) -> _Neuron:
    return replace(neuron, threshold=_t(node.v_threshold), reset=_t(node.v_reset))


def _if(node: Any, dt: float) -> _Neuron:
    return _firing(_Neuron(_Membrane(1.0, dt * _t(node.r), 0.0)), node)


def _li(node: Any, dt: float) -> _Neuron:
    return _Neuron(_leaky(node.tau, node.r, node.v_leak, dt))


def _lif(node: Any, dt: float) -> _Neuron:
    return _firing(_li(node, dt), node)


def _cuba_li(node: Any, dt: float) -> _Neuron:
    synapse = _leaky(node.tau_syn, node.w_in, np.zeros_like(node.tau_syn), dt)
    return _Neuron(_leaky(node.tau_mem, node.r, node.v_leak, dt), synapse)


def _cuba_lif(node: Any, dt: float) -> _Neuron:
    return _firing(_cuba_li(node, dt), node)


_MAKE: Mapping[str, Callable[[Any, float], Callable[[Tensor], Tensor] | _Neuron | None]] = {
    "Input": _identity,
    "Output": _identity,
    "Conv1d": _conv_of_signal,
    "Conv2d": _conv,
    "Affine": _linear,
    "Linear": _linear,
    "Scale": _scale,
    "SumPool2d": _pool,
    "AvgPool2d": _mean,
    "Flatten": _flatten,
    "CubaLI": _cuba_li,
    "CubaLIF": _cuba_lif,
    "IF": _if,
    "LI": _li,
    "LIF": _lif,
}
