"""Records of what the ports of a compiled module do: spikes, membranes and currents of every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from bcgraph.compiler.targets.fx.observer import Observer, by_step, check_observable
from bcgraph.compiler.targets.fx.recompute import statistics_aside
from bcgraph.errors import CompileError, nearest
from bcgraph.nn import lif as LIF
from bcgraph.nn.conv import folded as FC

VALUES: Mapping[str, str] = {
    "s": "the spikes",
    "u": "the membrane before the reset",
    "v": "the membrane after the reset",
    "I": "the whole current, connections included",
}
"""What can be recorded of a port (design 1.1)."""


def record(
    model: fx.GraphModule,
    x: Tensor,
    ports: Iterable[str | int] | str | int | None = None,
    values: Iterable[str] | str = ("s",),
) -> dict[str, dict[str, Tensor]]:
    """Run a compiled `model` on `x` and return what its ports did: port name, then value name, then `[T, N, ...]`.

    `ports` are names or numbers (default: all), `values` are keys of `VALUES`: `s`, `u`, `v` and `I`, with
    `u[t] = tau*v[t-1] + I[t]` (paper eq. 1). x is `[N, C, H, W]`, or `[T, N, C, H, W]` for a sequence.

    The graph is interpreted node by node, whatever the backend, in the mode the module is in. Spikes are bit-identical
    to those of the module's own call. Where a fused neuron keeps no membrane, it is computed again from the neuron's
    operands. Running statistics stay as they are. With gradients on, the record is differentiable.

    Raises CompileError: E060 for an unknown port; E072 for an unknown value, for a module of the step schedule or one
    that recomputes, and where a program of single operations computes no reset.
    """
    if "ports" not in getattr(model, "meta", {}):
        raise CompileError("E072", "only a module that bcgraph compiled has ports to record", hint="bcgraph.compile")
    check_observable(model)
    known: tuple[str, ...] = model.meta["ports"]
    chosen = _chosen_ports(known, ports)
    names = _chosen_values(values)
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


def _chosen_values(values: Iterable[str] | str) -> list[str]:
    found = list(dict.fromkeys((values,) if isinstance(values, str) else values))
    for value in found:
        if value not in VALUES:
            known = ", ".join(f"`{name}` ({meaning})" for name, meaning in VALUES.items())
            raise CompileError(
                "E072", f"a port has no value `{value}`", hint=nearest(value, VALUES) or f"known: {known}"
            )
    return found


@dataclass(frozen=True, slots=True)
class _Neuron:
    """The operands of a neuron's node: of one step, or with `steps` of all steps of a layer without feedback."""

    current: Tensor
    membrane: Tensor | None
    constants: FC.Constants
    steps: int = 0
    repeated: bool = False


# The arguments of each function of a neuron, see `bcgraph.nn.lif` and `bcgraph.nn.conv.folded`.


def _one_step(currents: Sequence[Tensor], membrane: Tensor | None, *rest: Any) -> _Neuron:
    return _Neuron(LIF.total(currents), membrane, rest[:5])


def _all_steps(currents: Sequence[Tensor], steps: int, repeated: bool, *rest: Any) -> _Neuron:
    return _Neuron(LIF.total(currents), None, rest[:5], steps, repeated)


def _conv_one_step(
    x: Tensor, weight: Tensor, bias: Tensor, settings: Any, others: Any, membrane: Any, constants: Any, *_: Any
) -> _Neuron:
    return _Neuron(LIF.total([FC.conv(x, weight, bias, settings), *others]), membrane, constants)


def _conv_all_steps(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    settings: Any,
    others: Any,
    steps: int,
    repeated: bool,
    constants: Any,
    *_: Any,
) -> _Neuron:
    return _Neuron(LIF.total([FC.conv(x, weight, bias, settings), *others]), None, constants, steps, repeated)


_NEURONS: Mapping[Any, Callable[..., _Neuron]] = {
    LIF.lif: _one_step,
    LIF.lif_last: _one_step,
    LIF.lif_steps: _all_steps,
    FC.conv_lif: _conv_one_step,
    FC.conv_lif_last: _conv_one_step,
    FC.conv_lif_steps: _conv_all_steps,
}


class _Recorder(Observer):
    """An observer that also keeps the `values` of the `ports`, in `found` by value and then by (port, step)."""

    def __init__(self, module: fx.GraphModule, ports: frozenset[int], values: frozenset[str]) -> None:
        super().__init__(module)
        self.ports = ports
        self.values_wanted = values
        self.inside = bool(values - {"s"})
        self.found: dict[str, dict[tuple[int, int], Tensor]] = {name: {} for name in VALUES}
        self.found["s"] = self.spikes
        # Of a network without fused neurons: each port's arguments of `reset` after u and s.
        self.resets = {n.meta["port"]: n.args[2:] for n in module.graph.nodes if n.target is LIF.reset}

    def run_node(self, n: fx.Node) -> Any:
        port, step = n.meta.get("port"), n.meta.get("step") or 0
        if not self.inside or port not in self.ports:
            return super().run_node(n)
        if n.target in _NEURONS:
            return self.fused(n, port, step)
        if n.target is LIF.charge:
            self.keep("I", port, step, self.fetch_args_kwargs_from_env(n)[0][0])
        result = super().run_node(n)
        if n.target is LIF.fire:
            self.fired(port, step, self.fetch_args_kwargs_from_env(n)[0][0], result)
        return result

    def fused(self, n: fx.Node, port: int, step: int) -> Any:
        # Before the node runs: it may write the next membrane over the one that it reads.
        neuron = _NEURONS[n.target](*self.fetch_args_kwargs_from_env(n)[0])
        tau, threshold, _, mode, detach = neuron.constants
        if not neuron.steps:
            u = neuron.current if neuron.membrane is None else LIF.charge(neuron.current, neuron.membrane, tau)
            self.keep("I", port, step, neuron.current)
            self.keep("u", port, step, u)
            result = super().run_node(n)
            s, v = result if isinstance(result, tuple) else (result, None)
            self.keep("v", port, step, LIF.reset(u, s, threshold, mode, detach) if v is None else v)
            return result
        currents = (neuron.current,) * neuron.steps if neuron.repeated else by_step(neuron.current, neuron.steps)
        result = super().run_node(n)
        v = None
        for t, (current, s) in enumerate(zip(currents, by_step(result, neuron.steps), strict=True)):
            u = current if v is None else LIF.charge(current, v, tau)
            v = LIF.reset(u, s, threshold, mode, detach)
            for name, value in (("I", current), ("u", u), ("v", v)):
                self.keep(name, port, t, value)
        return result

    def fired(self, port: int, step: int, u: Tensor, s: Tensor) -> None:
        """Keep what a neuron of single operations did; at the first step its current is u itself."""
        self.found["I"].setdefault((port, step), u)
        self.keep("u", port, step, u)
        if "v" not in self.values_wanted:
            return
        if port not in self.resets:
            raise CompileError(
                "E072",
                f"port {port} of this program has no reset: nobody reads its membrane",
                hint="record `u`, or compile with the pass `fuse_lif`",
            )
        self.keep("v", port, step, LIF.reset(u, s, *self.resets[port]))

    def keep(self, name: str, port: int, step: int, value: Tensor) -> None:
        if name in self.values_wanted:
            self.found[name][port, step] = value.clone() if self.copies else value
