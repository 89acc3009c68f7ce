"""The neurons and surrogates of the standard library in plain PyTorch, from their papers: the judge of their texts.

Every neuron is a function of one step: from its current and its states to what it sends. It shares no code with
`bcgraph.equations`; each surrogate is an autograd function with a backward pass of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bcgraph import schema
from tests.reference import Reference, Run

# --- Surrogates -------------------------------------------------------------------------------------------


class Surrogate(torch.autograd.Function):
    """1 where x is above zero; `slope` stands for the derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, setting: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.setting = setting
        return (x > 0).to(x.dtype)

    @classmethod
    def backward(cls, ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * cls.slope(x, ctx.setting), None

    @staticmethod
    def slope(x: Tensor, setting: float) -> Tensor:
        raise NotImplementedError


class Triangle(Surrogate):
    @staticmethod
    def slope(x: Tensor, setting: float) -> Tensor:
        return torch.clamp(setting - torch.abs(x), min=0.0) / (setting * setting)


class ATan(Surrogate):
    # Heaviside(x) ~ arctan(pi/2 alpha x) / pi + 1/2
    @staticmethod
    def slope(x: Tensor, setting: float) -> Tensor:
        return setting / (2.0 * (1.0 + torch.square(math.pi * setting * x / 2.0)))


class Sigmoid(Surrogate):
    # Heaviside(x) ~ 1 / (1 + exp(-alpha x)); its derivative is alpha / (4 cosh^2(alpha x / 2)).
    @staticmethod
    def slope(x: Tensor, setting: float) -> Tensor:
        return setting / (4.0 * torch.cosh(setting * x / 2.0) ** 2)


class Rectangle(Surrogate):
    @staticmethod
    def slope(x: Tensor, setting: float) -> Tensor:
        return (torch.abs(x) < setting / 2.0).to(x.dtype) / setting


class FastSigmoid(Surrogate):
    @staticmethod
    def slope(x: Tensor, setting: float) -> Tensor:
        return torch.pow(setting * torch.abs(x) + 1.0, -2)


class PiecewiseQuadratic(Surrogate):
    # The primitive is -alpha^2/2 |x| x + alpha x + 1/2 within 1/alpha of zero.
    @staticmethod
    def slope(x: Tensor, setting: float) -> Tensor:
        inside = torch.abs(x) <= 1.0 / setting
        return torch.where(inside, setting * (1.0 - setting * torch.abs(x)), torch.zeros_like(x))


class Erf(Surrogate):
    # Heaviside(x) ~ (1 + erf(alpha x)) / 2; the derivative of erf(z) is 2/sqrt(pi) exp(-z^2).
    @staticmethod
    def slope(x: Tensor, setting: float) -> Tensor:
        return setting / math.sqrt(math.pi) * torch.exp(-torch.square(setting * x))


SURROGATES: Mapping[str, type[Surrogate]] = {
    "triangle": Triangle,
    "atan": ATan,
    "sigmoid": Sigmoid,
    "rectangle": Rectangle,
    "fast_sigmoid": FastSigmoid,
    "piecewise_quadratic": PiecewiseQuadratic,
    "erf": Erf,
}


# --- Neurons ----------------------------------------------------------------------------------------------


@dataclass
class Layer:
    """A layer of neurons: what it was called with, its learned parameters, and its states after each step."""

    given: Mapping[str, Any]
    learned: Mapping[str, Tensor] = field(default_factory=dict)
    states: dict[str, Tensor] = field(default_factory=dict)

    def state(self, name: str, current: Tensor, start: float = 0.0) -> Tensor:
        return self.states.get(name, torch.full_like(current, start))

    def fire(self, distance: Tensor) -> Tensor:
        surrogate = self.given["surrogate"]
        (setting,) = dict(surrogate.arguments).values()
        spike: Tensor = SURROGATES[surrogate.name].apply(distance, setting)  # type: ignore[no-untyped-call]
        return spike

    def reset(self, membrane: Tensor, spike: Tensor, level: Tensor | float, *, soft: bool) -> Tensor:
        """The membrane after a spike: `level` lower, or zero."""
        by = spike.detach() if self.given["detach_reset"] else spike
        return membrane - by * level if soft else membrane - by * membrane

    def leaky(self, membrane: Tensor) -> Tensor:
        """Fires above the threshold, and resets as `reset` says."""
        spike = self.fire(membrane - self.given["threshold"])
        soft = self.given["reset"] == "soft"
        self.states["v"] = self.reset(membrane, spike, self.given["threshold"], soft=soft)
        return spike


def lif(layer: Layer, current: Tensor) -> Tensor:
    return layer.leaky(layer.state("v", current) * layer.given["tau"] + current)


def if_(layer: Layer, current: Tensor) -> Tensor:
    return layer.leaky(layer.state("v", current) + current)


def plif(layer: Layer, current: Tensor) -> Tensor:
    """H = V + (X - V) / tau with 1 / tau = 1 / (1 + exp(-w))."""
    before = layer.state("v", current)
    return layer.leaky(before + (current - before) / (1.0 + torch.exp(-layer.learned["w"])))


def klif(layer: Layer, current: Tensor) -> Tensor:
    """F = ReLU(k (V + (X - V) / tau)); spikes and the reset are those of F."""
    before = layer.state("v", current)
    charged = before * (1.0 - 1.0 / layer.given["tau"]) + current / layer.given["tau"]
    return layer.leaky(torch.clamp(layer.learned["k"] * charged, min=0.0))


def cuba(layer: Layer, current: Tensor) -> Tensor:
    layer.states["i"] = layer.given["tau_syn"] * layer.state("i", current) + current
    return layer.leaky(layer.given["tau"] * layer.state("v", current) + layer.states["i"])


def alif(layer: Layer, current: Tensor) -> Tensor:
    """The threshold is raised by beta times a trace of the spikes before this step; the reset takes it off."""
    trace = layer.state("a", current)
    threshold = trace * layer.given["beta"] + layer.given["threshold"]
    membrane = current + layer.given["tau"] * layer.state("v", current)
    spike = layer.fire(membrane - threshold)
    layer.states["v"] = layer.reset(membrane, spike, threshold, soft=True)
    layer.states["a"] = layer.given["rho"] * trace + spike
    return spike


class Counted(torch.autograd.Function):
    """A membrane rounded to a whole number from 0 to the highest; between them the gradient passes."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor, highest: float) -> Tensor:
        ctx.save_for_backward((membrane >= 0) & (membrane <= highest))
        return torch.clamp(torch.round(membrane), 0.0, highest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return torch.where(inside, gradient, torch.zeros_like(gradient)), None


def ilif(layer: Layer, current: Tensor) -> Tensor:
    membrane = layer.given["tau"] * layer.state("v", current) + current
    count: Tensor = Counted.apply(membrane, layer.given["levels"])  # type: ignore[no-untyped-call]
    layer.states["v"] = membrane - count
    return count


def izhikevich(layer: Layer, current: Tensor) -> Tensor:
    """v' = 0.04 v^2 + 5 v + 140 - u + I; u' = a (b v - u); above the peak v becomes c and u grows by d."""
    g = layer.given
    v, u = layer.state("v", current, -65.0), layer.state("u", current, -13.0)
    rise = v * (0.04 * v + 5.0) + 140.0 - u + current
    after, recovery = v + g["step"] * rise, u + g["step"] * g["a"] * (g["b"] * v - u)
    spike = layer.fire(after - g["threshold"])
    fired = spike.detach() > 0
    layer.states["v"] = after.masked_fill(fired, g["c"])
    layer.states["u"] = recovery + spike * g["d"]
    return spike


def relu(layer: Layer, current: Tensor) -> Tensor:
    return torch.where(current > 0, current, torch.zeros_like(current))


Step: TypeAlias = Callable[[Layer, Tensor], Tensor]

NEURONS: Mapping[str, Step] = {
    "lif": lif,
    "if_": if_,
    "plif": plif,
    "klif": klif,
    "cuba": cuba,
    "alif": alif,
    "ilif": ilif,
    "izhikevich": izhikevich,
    "relu": relu,
}

LEARNED: Mapping[str, tuple[str, ...]] = {"plif": ("w",), "klif": ("k",)}
"""The learned parameters of neurons that have some, one value for a layer each."""


# --- Networks ---------------------------------------------------------------------------------------------


class LibraryReference(Reference):
    """The reference, with neurons of the standard library or those in `more`."""

    def __init__(
        self,
        spec: schema.NetworkSpec,
        state_dict: Mapping[str, Tensor],
        dtype: torch.dtype = torch.float64,
        more: Mapping[str, Step] | None = None,
    ) -> None:
        super().__init__(spec, state_dict, dtype)
        self.neurons = {**NEURONS, **(more or {})}
        self.layers: dict[str, Layer] = {}

    def _norm(self, name: str, norm: schema.Norm, x: Tensor, run: Run, step: int) -> Tensor:
        """TEBN multiplies the result of step t by a trained p[t]."""
        normal = super()._norm(name, norm, x, run, step)
        return normal * self.parameters[f"{name}.p"][step] if norm.scales == "per_step" else normal

    def neuron(self, layer: schema.NeuronLayer, current: Tensor, run: Run) -> Tensor:
        if run.step == 0:
            inside = {k.rpartition(".")[2]: p for k, p in self.parameters.items() if k.rpartition(".")[0] == layer.name}
            self.layers[layer.name] = Layer(dict(layer.neuron.arguments), inside)
        spike = self.neurons[layer.neuron.name](self.layers[layer.name], current)
        run.spikes[self.spec.ports.index(layer.name), run.step] = spike
        return spike
