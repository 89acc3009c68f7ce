"""Records of what the ports of a compiled module do: spikes, currents and all that their neurons compute."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from bcgraph import schema
from bcgraph.compiler.targets.fx.observer import Observer, by_step, check_observable
from bcgraph.compiler.targets.fx.recompute import statistics_aside
from bcgraph.equations.expression import Read
from bcgraph.equations.neuron import CURRENT, SPIKES, Equations
from bcgraph.errors import CompileError, nearest
from bcgraph.nn.conv import folded as FC
from bcgraph.nn.loop.module import LoopModule
from bcgraph.nn.neuron.kernel import kernel
from bcgraph.nn.neuron.neuron import Neuron, NeuronSteps, enlarged, total


def record(
    model: fx.GraphModule,
    x: Tensor,
    ports: Iterable[str | int] | str | int | None = None,
    values: Iterable[str] | str = ("s",),
) -> dict[str, dict[str, Tensor]]:
    """Run a compiled `model` on `x` and return what its ports did: port name, then value name, then `[T, N, ...]`.

    `ports` are names or numbers (default: all). `values` are names of the neuron's definition, and `I`, the whole
    current, connections included: for `lif` that is `s`, `u`, `v` and `I`, with `u[t] = tau*v[t-1] + I[t]` (paper
    eq. 1). x is `[N, C, H, W]`, or `[T, N, C, H, W]` for a sequence.

    The graph is interpreted node by node, whatever the backend, in the mode the module is in. Spikes are bit-identical
    to those of the module's own call; what a fused neuron does not give is computed again from its current. Running
    statistics stay as they are. With gradients on, the record is differentiable.

    Raises CompileError: E060 for an unknown port; E072 for an unknown value, for a module of the step schedule or one
    that recomputes.
    """
    if "ports" not in getattr(model, "meta", {}):
        raise CompileError("E072", "only a module that bcgraph compiled has ports to record", hint="bcgraph.compile")
    check_observable(model)
    known: tuple[str, ...] = model.meta["ports"]
    chosen = _chosen_ports(known, ports)
    layers: Mapping[int, schema.NeuronLayer] = model.meta["neurons"]
    names = _chosen_values(values, [layers[known.index(port)].neuron for port in chosen])
    recorder = _Recorder(model, frozenset(known.index(name) for name in chosen), frozenset(names))
    with statistics_aside(model):
        recorder.run(x)
    steps = range(model.meta["steps"])
    return {
        port: {name: torch.stack([recorder.found[name][known.index(port), t] for t in steps]) for name in names}
        for port in chosen
    }


def _chosen_ports(known: Sequence[str], ports: Iterable[str | int] | str | int | None) -> list[str]:
    if ports is None:
        return list(known)
    found: dict[str, None] = {}
    for port in (ports,) if isinstance(ports, str | int) else ports:
        if isinstance(port, str) and port in known:
            found[port] = None
        elif isinstance(port, int) and 0 <= port < len(known):
            found[known[port]] = None
        else:
            close = nearest(port, known) if isinstance(port, str) else None
            hint = close or f"ports are numbered 0 to {len(known) - 1}: {', '.join(known[:4])}, ..."
            raise CompileError("E060", f"there is no port `{port}`", hint=hint)
    return list(found)


def _chosen_values(values: Iterable[str] | str, neurons: Iterable[schema.Neuron]) -> list[str]:
    found = list(dict.fromkeys((values,) if isinstance(values, str) else values))
    for neuron in neurons:
        known = (CURRENT, *(name for name, _ in neuron.equations.body))
        for value in found:
            if value not in known:
                hint = nearest(value, known) or f"known: {', '.join(f'`{name}`' for name in known)}"
                raise CompileError("E072", f"a port of `{neuron.name}` has no value `{value}`", hint=hint)
    return found


class _Recorder(Observer):
    """An observer that also keeps the `values` of the `ports`, in `found` by value and then by (port, step).

    It runs the equations of a port beside the module, from the port's current: a fused neuron gives no more than is
    read, and the memory of its states is used again.
    """

    def __init__(self, module: fx.GraphModule, ports: frozenset[int], values: frozenset[str]) -> None:
        super().__init__(module)
        self.ports = ports
        self.values_wanted = values
        self.inside = bool(values - {SPIKES})
        self.found: dict[str, dict[tuple[int, int], Tensor]] = {name: {} for name in values}
        self.found[SPIKES] = self.spikes
        self.layers: Mapping[int, schema.NeuronLayer] = module.meta["neurons"]
        self.states: dict[int, dict[str, Tensor]] = {port: {} for port in ports}
        self.done: set[tuple[int, int]] = set()

    def run_node(self, n: fx.Node) -> Any:
        port, step = n.meta.get("port"), n.meta.get("step") or 0
        if self.inside and port in self.ports and n.op == "call_function" and n.target is not operator.getitem:
            # Before the node runs: it may write the next states over those that it reads.
            self.compute(n, port, step)
        loop = self.fetch_attr(str(n.target)) if self.inside and n.op == "call_module" else None
        if isinstance(loop, LoopModule):
            frames, fixed = self.fetch_args_kwargs_from_env(n)[0]
            loop.run(frames, fixed, self.seen)
        return super().run_node(n)

    def seen(self, port: int, step: int, current: Tensor) -> None:
        """A port of a loop has this current."""
        if port in self.ports:
            self.advance(current, port, step)

    def compute(self, n: fx.Node, port: int, step: int) -> None:
        arguments = self.fetch_args_kwargs_from_env(n)[0]
        target: Any = n.target
        if isinstance(target, FC.ConvNeuronSteps | FC.ConvNeuron):
            x, weight, bias, settings, others = arguments[:5]
            currents = [FC.conv(x, weight, bias, settings), *others]
        elif isinstance(target, Neuron | NeuronSteps):
            currents = arguments[0]
        else:
            self.single(target, arguments, port, step)
            return
        current = total(enlarged(currents))
        if not isinstance(target, NeuronSteps):
            self.advance(current, port, step)
            return
        steps, repeated = arguments[7:9] if isinstance(target, FC.ConvNeuronSteps) else arguments[2:4]
        for t, now in enumerate((current,) * steps if repeated else by_step(current, steps)):
            self.advance(now, port, t)

    def single(self, target: Any, arguments: Any, port: int, step: int) -> None:
        """A node of one equation: it knows the current, or at the first step what the current passed for."""
        keys: tuple[str, ...] = getattr(target, "keys", ())
        body = dict(self.first(port).body)
        for key, value in zip(keys, arguments[0] if keys else (), strict=False):
            name = key
            # A chain at the first step: `u = i` and `i = I`, once states that are zero have left both.
            while not self.states[port] and isinstance(read := body.get(name), Read) and not read.delay:
                name = read.name
            if name == CURRENT and (port, step) not in self.done:
                self.advance(value, port, step)

    def first(self, port: int) -> Equations:
        """The equations of a port at the first step."""
        equations = self.layers[port].neuron.equations
        return equations.giving([name for name, _ in equations.body]).without(equations.states)

    def advance(self, current: Tensor, port: int, step: int) -> None:
        """One step of a port's equations."""
        self.done.add((port, step))
        layer = self.layers[port]
        equations = layer.neuron.equations
        states = self.states[port]
        names = [name for name, _ in equations.body]
        missing = [name for name in equations.states if name not in states]
        one = kernel(equations.giving(names).without(missing))
        learned = [self.module.get_parameter(f"{layer.name}.{each.name}") for each in one.equations.learned]
        before = [states[name] for name in one.equations.states]
        made = dict(zip(one.after, one.plain(current, *before, *one.uniforms(learned, current)), strict=True))
        self.states[port] = {name: made[name] for name in equations.states}
        self.keep(CURRENT, port, step, current)
        for name, value in made.items():
            if name != SPIKES:
                self.keep(name, port, step, value)

    def keep(self, name: str, port: int, step: int, value: Tensor) -> None:
        if name in self.values_wanted:
            self.found[name][port, step] = value.clone() if self.copies else value
