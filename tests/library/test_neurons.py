"""Every neuron and surrogate of the standard library computes what its paper says, in every schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from bcgraph import schema
from bcgraph.dsl.elaboration.library import standard_names
from tests.equivalence.support import SCHEDULES, compare
from tests.library import plain
from tests.library.plain import LibraryReference
from tests.library.support import CHANNELS, Shapes, assert_lively, network, state

NEURONS = {
    "lif": "lif()",
    "lif-soft": "lif(tau=0.8, reset=soft)",
    "if_": "if_()",
    "if_-soft": "if_(reset=soft, detach_reset=true)",
    "plif": "plif()",
    "plif-soft": "plif(tau=1.3, threshold=0.7, reset=soft)",
    "plif-detached": "plif(detach_reset=true)",
    "klif": "klif(threshold=0.5)",
    "klif-soft": "klif(tau=1.5, threshold=0.5, reset=soft, detach_reset=true)",
    "cuba": "cuba()",
    "cuba-soft": "cuba(tau=0.7, tau_syn=0.2, reset=soft)",
    "cuba-detached": "cuba(detach_reset=true)",
    "alif": "alif()",
    "alif-strong": "alif(rho=0.6, beta=0.9, threshold=0.5, surrogate=sigmoid())",
    "alif-detached": "alif(detach_reset=true)",
    "ilif": "ilif()",
    "ilif-wide": "ilif(tau=0.6, levels=8)",
    "izhikevich": "izhikevich()",
    "izhikevich-chattering": "izhikevich(c=-50.0, d=2.0, step=0.5, surrogate=atan(alpha=0.1))",
    "relu": "relu()",
}

Modes = Sequence[tuple[bool, dict[str, Any]]]

# Training, evaluation, single equations, and what is compiled for inference, with its kernels and folded norms.
MODES: Modes = (
    (True, {}),
    (True, {"optimize": ()}),
    (False, {}),
    (False, {"optimize": ()}),
    (False, {"inference": True}),
)


def agree(
    spec: schema.NetworkSpec, schedule: str, modes: Modes = MODES, learned: Shapes | None = None, **more: plain.Step
) -> None:
    """Outputs, spikes, gradients and statistics of two passes in each mode."""
    values = state(spec, learned)

    def judge(given: schema.NetworkSpec, values: Mapping[str, Tensor]) -> LibraryReference:
        return LibraryReference(given, values, more=more)

    for training, options in modes:
        trace = compare(spec, schedule, training=training, lively=False, values=values, judge=judge, **options)
        assert_lively(trace)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("call", NEURONS.values(), ids=NEURONS)
def test_neurons(call: str, schedule: str) -> None:
    agree(network(call), schedule)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", plain.SURROGATES)
def test_surrogates(name: str, schedule: str) -> None:
    agree(network(f"lif(surrogate={name}(0.7))"), schedule, MODES[:2])


@pytest.mark.parametrize("name", plain.SURROGATES)
def test_surrogates_as_they_are_by_default(name: str) -> None:
    agree(network(f"lif(surrogate={name})"), "unrolled", MODES[:1])


SLOW = """neuron slow(rate=0.3, reset=true, surrogate=triangle()) {
  learn[channels] gain = 1
  learn level = 0.5
  state v = 0
  state w = 0.5
  drive = gain * I / (1 + abs(w))
  u = v + tanh(drive - rate * v)
  limit = softplus(level) - 0.7
  s = spike(u - limit, surrogate)
  v = u - limit * s if reset else u * (1 - s)
  w = (1 - rate) * w + max(u, s) ** 2 / (1 + w ** 2)
}"""


def slow(layer: plain.Layer, current: Tensor) -> Tensor:
    """Two states, one of which does not start at zero, a parameter for each channel, division, powers and tanh."""
    v, w = layer.state("v", current), layer.state("w", current, 0.5)
    channels = (1, -1, *[1] * (current.dim() - 2))
    drive = layer.learned["gain"].view(channels) * current / (w.abs() + 1)
    membrane = torch.tanh(drive - layer.given["rate"] * v) + v
    level = torch.log(1 + torch.exp(layer.learned["level"])) - 0.7
    spike = layer.fire(membrane - level)
    layer.states["v"] = membrane - level * spike if layer.given["reset"] else membrane - membrane * spike
    grown = torch.where(membrane >= spike, membrane, spike)
    layer.states["w"] = (1 - layer.given["rate"]) * w + grown * grown / (1 + w * w)
    return spike


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("call", ["slow()", "slow(rate=0.9, reset=false, surrogate=atan(3))"])
def test_a_neuron_of_a_users_own(call: str, schedule: str) -> None:
    spec = network(call, definitions=SLOW)
    shapes: Shapes = {port: {"gain": (channels,), "level": ()} for port, channels in CHANNELS.items()}
    agree(spec, schedule, learned=shapes, slow=slow)


def test_all_of_the_library_is_judged() -> None:
    assert set(plain.NEURONS) == set(standard_names("neuron"))
    assert {call.split("(")[0] for call in NEURONS.values()} == set(plain.NEURONS)
    assert set(plain.SURROGATES) == set(standard_names("surrogate"))
