"""Networks of any neuron, and values under which they fire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bcgraph import dsl, schema
from tests.equivalence import support
from tests.library.plain import LEARNED

BACKWARD = ((1, 0), (2, 2, 2), (3, 1), (3, 3))
"""To an earlier port, to itself after two steps, and from a port without a resolution."""

CURRENTS = {"izhikevich": 60.0}
"""How loud currents have to be, where membranes are in millivolts."""


CHANNELS: Mapping[str, int] = {"lif1": 4, "block.lif1": 4, "block.lif2": 6, "lif2": 12}
"""The ports of the network, each with its channels."""

Shapes: TypeAlias = Mapping[str, Mapping[str, tuple[int, ...]]]
"""For each port the learned parameters of its neurons, with their shapes."""


def network(call: str, definitions: str = "", **settings: Any) -> schema.NetworkSpec:
    """Four ports of one neuron, of the standard library or of `definitions`, with backward connections."""
    body = f"input = image(1, 8, 8); steps = 1; neuron = {call}; backbone = tiny()"
    neuron = dsl.parse(f"bcg 1\n{definitions}\nnetwork any {{ {body} }}\n").neuron
    return support.small(neuron=neuron, **({"steps": 4, "backward": BACKWARD} | settings))


def two_ports(call: str, definitions: str = "", **settings: Any) -> schema.NetworkSpec:
    """The first port of `network` and its last, which has no resolution."""
    body = network(call, definitions).backbone.body
    return support.network([*body[:3], *body[-4:]], shape=(2, 7, 7), **settings)


def state(spec: schema.NetworkSpec, learned: Shapes | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Values of all parameters and buffers; `learned` are those of the neurons, where they are not of the library."""
    name = next(n.neuron.name for n in schema.walk(spec.backbone.body) if isinstance(n, schema.NeuronLayer))
    values = support.state(spec, seed)
    if learned is None:
        learned = {port: dict.fromkeys(LEARNED.get(name, ()), ()) for port in spec.ports}
    for port, shapes in learned.items():
        for each, shape in shapes.items():
            drawn = torch.rand(shape, generator=support.generator(seed, port, each), dtype=torch.float64)
            values[f"{port}.{each}"] = 0.3 + drawn
    loud = CURRENTS.get(name, 1.0)
    scales = {k for k, v in values.items() if k.endswith(".weight") and v.dim() == 1} | {"fc1.weight", "fc1.bias"}
    return {k: v * loud if k in scales else v for k, v in values.items()}


def assert_lively(trace: Any) -> None:
    """Some neurons send something, some nothing: a silent or saturated network proves nothing."""
    sent = torch.cat([s.detach().flatten() for s in trace.spikes.values()]) != 0
    assert 0.05 < float(sent.double().mean()) < 0.95
