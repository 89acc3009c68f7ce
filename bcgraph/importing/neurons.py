"""Activations and neurons: what they are in the language, with the definitions that the standard library lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bcgraph.importing.layers import RefusedError


@dataclass(frozen=True, slots=True)
class Activation:
    """A neuron of the language: its name, its arguments, the text that defines it, and its trained values."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()
    definition: str | None = None
    spikes: bool = False
    weights: Mapping[str, Tensor] = field(default_factory=dict)


_PLAIN: Mapping[str, str] = {
    "relu6": "s = clamp(I, 0, 6)",
    "silu": "s = I * sigmoid(I)",
    "hardswish": "s = I * clamp(I + 3, 0, 6) / 6",
    "hardsigmoid": "s = clamp(I + 3, 0, 6) / 6",
    "logistic": "s = sigmoid(I)",
    "tanh_": "s = tanh(I)",
    "softplus_": "s = softplus(I)",
    "mish": "s = I * tanh(softplus(I))",
    "gelu_tanh": "s = I / 2 * (1 + tanh(sqrt(2 / pi) * (I + 0.044715 * I ** 3)))",
}


def plain(name: str) -> Activation:
    """An activation without parameters."""
    return Activation(name, (), f"neuron {name}() {{\n  {_PLAIN[name]}\n}}")


def _hardtanh(low: float, high: float) -> Activation:
    if (low, high) == (0.0, 6.0):
        return plain("relu6")
    text = "neuron hardtanh(low=-1.0, high=1.0) {\n  s = clamp(I, low, high)\n}"
    return Activation("hardtanh", (("low", float(low)), ("high", float(high))), text)


def _leaky(slope: float) -> Activation:
    text = "neuron leaky_relu(slope=0.01) {\n  s = max(I, 0) + slope * min(I, 0)\n}"
    return Activation("leaky_relu", (("slope", float(slope)),), text)


def _elu(alpha: float) -> Activation:
    text = "neuron elu(alpha=1.0) {\n  s = max(I, 0) + alpha * (exp(min(I, 0)) - 1)\n}"
    return Activation("elu", (("alpha", float(alpha)),), text)


def _gelu(approximate: str) -> Activation:
    # A definition has no error function, so the exact one is told apart by its name and proved by the other.
    return plain("gelu_tanh") if approximate == "tanh" else Activation("gelu", (), plain("gelu_tanh").definition)


_EXACT = "_bcgraph_exact"


def by_tanh(module: nn.GELU) -> None:
    """Let a GELU compute its approximation, which a definition can say, and remember that it was exact."""
    module.approximate = "tanh"
    setattr(module, _EXACT, True)


def _relu(*_: Any) -> Activation:
    return Activation("relu")


# By the name of the function.
FUNCTIONS: Mapping[str, Callable[..., Activation]] = {
    "relu": _relu,
    "relu_": _relu,
    "relu6": lambda *_: plain("relu6"),
    "silu": lambda *_: plain("silu"),
    "silu_": lambda *_: plain("silu"),
    "hardswish": lambda *_: plain("hardswish"),
    "hardsigmoid": lambda *_: plain("hardsigmoid"),
    "sigmoid": lambda *_: plain("logistic"),
    "sigmoid_": lambda *_: plain("logistic"),
    "tanh": lambda *_: plain("tanh_"),
    "tanh_": lambda *_: plain("tanh_"),
    "softplus": lambda *_: plain("softplus_"),
    "mish": lambda *_: plain("mish"),
    "gelu": lambda approximate="none", *_: _gelu(approximate),
    "leaky_relu": lambda slope=0.01, *_: _leaky(slope),
    "elu": lambda alpha=1.0, *_: _elu(alpha),
    "hardtanh": lambda low=-1.0, high=1.0, *_: _hardtanh(low, high),
}


def of_module(module: nn.Module) -> Activation | None:
    """The activation or the neuron that a module is; None for any other module."""
    for kind, make in _MODULES.items():
        # A subclass that computes something of its own is read as what it computes.
        if isinstance(module, kind) and type(module).forward is getattr(kind, "forward", None):
            return make(module)
    peer = _PEERS.get(type(module).__module__.split(".")[0])
    return None if peer is None else peer(module)


_MODULES: Mapping[type, Callable[[Any], Activation]] = {
    nn.ReLU6: lambda m: plain("relu6"),
    nn.ReLU: _relu,
    nn.SiLU: lambda m: plain("silu"),
    nn.Hardswish: lambda m: plain("hardswish"),
    nn.Hardsigmoid: lambda m: plain("hardsigmoid"),
    nn.Sigmoid: lambda m: plain("logistic"),
    nn.Tanh: lambda m: plain("tanh_"),
    nn.Softplus: lambda m: plain("softplus_"),
    nn.Mish: lambda m: plain("mish"),
    nn.GELU: lambda m: _gelu("none" if getattr(m, _EXACT, False) else m.approximate),
    nn.LeakyReLU: lambda m: _leaky(m.negative_slope),
    nn.ELU: lambda m: _elu(m.alpha),
    nn.Hardtanh: lambda m: _hardtanh(m.min_val, m.max_val),
}


# --- SpikingJelly and snnTorch ----------------------------------------------------------------------------

_RESET = "  r = detach(s) if detach_reset else s\n  v = u * (1 - r) if reset == hard else u - threshold * r\n}"
_LIF_NODE = (
    "# The LIF of SpikingJelly: tau is a time constant in steps, and the current may decay with the membrane.\n"
    "neuron lif_node(tau=2.0, threshold=1.0, reset=hard, decay_input=true, surrogate=sigmoid(), detach_reset=false) {\n"
    "  state v = 0\n"
    "  u = v + (I - v) / tau if decay_input else v - v / tau + I\n"
    "  s = spike(u - threshold, surrogate)\n" + _RESET
)
_LEAKY = (
    "# The Leaky neuron of snnTorch: it resets a step after it has fired.\n"
    "neuron leaky(beta=0.9, threshold=1.0, reset=soft, surrogate=atan()) {\n"
    "  state v = 0\n"
    "  r = detach(spike(v - threshold, surrogate))\n"
    "  v = beta * v * (1 - r) + I if reset == hard else beta * v + I - threshold * r\n"
    "  s = spike(v - threshold, surrogate)\n"
    "}"
)
_SURROGATES = {"ATan": "atan", "Sigmoid": "sigmoid", "PiecewiseQuadratic": "piecewise_quadratic", "Erf": "erf"}


@dataclass(frozen=True, slots=True)
class Written:
    """An argument that is written as it is."""

    text: str


def _spikingjelly(module: nn.Module) -> Activation | None:
    kinds = {each.__name__ for each in type(module).__mro__}
    if "BaseNode" not in kinds:
        return None
    node: Any = module
    name = type(module).__name__
    if name not in ("IFNode", "LIFNode", "ParametricLIFNode"):
        raise RefusedError(
            f"the neuron `{name}` of SpikingJelly is not known here", "known: IF, LIF and parametric LIF"
        )
    if node.v_reset not in (None, 0.0):
        raise RefusedError(f"the neuron resets to {node.v_reset}", "neurons here reset to 0, or by the threshold")
    if isinstance(node.v_threshold, Tensor):
        raise RefusedError("the threshold is trained", "write the neuron as a definition")
    common: tuple[tuple[str, Any], ...] = (
        ("threshold", float(node.v_threshold)),
        ("reset", Written("soft" if node.v_reset is None else "hard")),
    )
    last = (("surrogate", _surrogate(node.surrogate_function)), ("detach_reset", bool(node.detach_reset)))
    if name == "IFNode":
        return Activation("if_", (*common, *last), spikes=True)
    if name == "LIFNode":
        own = (("tau", float(node.tau)), *common, ("decay_input", bool(node.decay_input)), *last)
        return Activation("lif_node", own, _LIF_NODE, spikes=True)
    if not node.decay_input:
        raise RefusedError("a parametric LIF whose current does not decay is not known here")
    tau = 1.0 + float(torch.exp(-node.w.detach()))
    return Activation("plif", (("tau", tau), *common, *last), spikes=True, weights={"w": node.w.detach()})


def _surrogate(function: Any) -> Written:
    name = _SURROGATES.get(type(function).__name__)
    if name is None:
        return Written("atan()")
    return Written(f"{name}(alpha={float(function.alpha)!r})")


def _snntorch(module: nn.Module) -> Activation | None:
    kinds = {each.__name__ for each in type(module).__mro__}
    if "SpikingNeuron" not in kinds:
        return None
    node: Any = module
    if type(module).__name__ != "Leaky":
        raise RefusedError(f"the neuron `{type(module).__name__}` of snnTorch is not known here", "known: Leaky")
    if node.reset_mechanism == "none":
        raise RefusedError("the neuron never resets", "known resets: subtract and zero")
    if node.beta.numel() != 1 or node.threshold.numel() != 1:
        raise RefusedError("a beta or a threshold for each neuron is not known here", "give one number a layer")
    if not getattr(node, "reset_delay", True) or getattr(node, "inhibition", False):
        raise RefusedError("a reset without delay, and inhibition, are not known here")
    reset = Written("soft" if node.reset_mechanism == "subtract" else "hard")
    beta = float(node.beta.detach().clamp(0, 1))
    own = (("beta", beta), ("threshold", float(node.threshold)), ("reset", reset), ("surrogate", Written("atan()")))
    return Activation("leaky", own, _LEAKY, spikes=True)


_PEERS: Mapping[str, Callable[[nn.Module], Activation | None]] = {
    "spikingjelly": _spikingjelly,
    "snntorch": _snntorch,
}


# --- NIR --------------------------------------------------------------------------------------------------

_FIRES = (
    "  s = spike(u - threshold, surrogate)\n  r = detach(s) if detach_reset else s\n  v = u * (1 - r) + reset_to * r\n}"
)
_LAST = "threshold=1.0, reset_to=0.0, surrogate=triangle(), detach_reset=false"
_EULER = "# {} of NIR in one step of forward Euler. A step keeps a part of a state and adds a gain times its current.\n"
_NIR: Mapping[str, str] = {
    "nir_lif": _EULER.format("LIF and IF")
    + f"neuron nir_lif(keep=0.5, gain=1.0, rest=0.0, {_LAST}) {{\n"
    + "  state v = 0\n  u = keep * v + gain * I + rest\n"
    + _FIRES,
    "nir_li": _EULER.format("LI")
    + "neuron nir_li(keep=0.5, gain=1.0, rest=0.0) {\n"
    + "  state v = 0\n  v = keep * v + gain * I + rest\n  s = v\n}",
    "nir_cuba": _EULER.format("CubaLIF")
    + f"neuron nir_cuba(keep_i=0.5, gain_i=1.0, keep=0.5, gain=1.0, rest=0.0, {_LAST}) {{\n"
    + "  state i = 0\n  state v = 0\n  i = keep_i * i + gain_i * I\n  u = keep * v + gain * i + rest\n"
    + _FIRES,
    "nir_cuba_li": _EULER.format("CubaLI")
    + "neuron nir_cuba_li(keep_i=0.5, gain_i=1.0, keep=0.5, gain=1.0, rest=0.0) {\n"
    + "  state i = 0\n  state v = 0\n  i = keep_i * i + gain_i * I\n  v = keep * v + gain * i + rest\n  s = v\n}",
}
# What rounding in float32 makes of a gain of 1.
_ROUNDING = 1e-6


def nir_neuron(node: Any, dt: float, factor: float) -> Activation:
    """The neuron that a node of NIR is in a step of `dt` seconds, on currents that are still to be scaled by `factor`.

    Raises RefusedError where neurons of a layer differ.
    """

    def of(name: str) -> np.float32:
        values = np.unique(np.asarray(getattr(node, name), dtype=np.float32))
        if len(values) != 1:
            raise RefusedError(f"its neurons have a `{name}` each", "the neurons of a layer have one number together")
        return np.float32(values[0])

    def number(value: Any) -> float:
        # The shortest decimal that is this number in float32.
        found = float(str(np.float32(value)))
        return 1.0 if abs(found - 1) < _ROUNDING else found

    kind = type(node).__name__
    step, one = np.float32(dt), np.float32(1)
    fires = kind in ("IF", "LIF", "CubaLIF")
    synapse: dict[str, float] = {}
    if kind.startswith("Cuba"):
        part = step / of("tau_syn")
        synapse = {"keep_i": number(one - part), "gain_i": number(part * of("w_in") * np.float32(factor))}
        factor = 1.0
    if kind == "IF":
        keep, gain, rest = 1.0, number(step * of("r") * np.float32(factor)), 0.0
    else:
        part = step / of("tau_mem" if synapse else "tau")
        keep, gain = number(one - part), number(part * of("r") * np.float32(factor))
        rest = number(part * of("v_leak"))
    last = {"threshold": number(of("v_threshold")), "reset_to": number(of("v_reset"))} if fires else {}
    if kind in ("IF", "LIF") and gain == 1.0 and not rest and not last["reset_to"] and last["threshold"] > 0 <= keep:
        leak = {} if keep == 1.0 else {"tau": keep}
        name = "lif" if leak else "if_"
        return Activation(name, tuple({**leak, "threshold": last["threshold"]}.items()), spikes=True)
    own = {**synapse, "keep": keep, "gain": gain, "rest": rest, **last}
    name = f"nir_cuba{'' if fires else '_li'}" if synapse else "nir_lif" if fires else "nir_li"
    return Activation(name, tuple(own.items()), _NIR[name], spikes=fires)
