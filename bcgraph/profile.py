"""What a network costs: parameters, operations, firing rates, synaptic operations, energy, memory of its states.

Counting needs the specification alone. Firing rates come from spikes that were measured on data; with them, a layer
that reads spikes is charged one accumulate for each operation whose spike is there (operations times the firing rate of
the port it reads; a spike that is a whole number counts as so many), and a layer that reads numbers one
multiply-accumulate for each operation. A sum of spikes is a small whole number, so a layer behind it is charged one
accumulate for each spike in the sum. Energies are those of a 45 nm process, as papers on spiking networks quote them
(Horowitz, ISSCC 2014: 0.9 pJ for an addition in float32, 3.7 pJ more for a multiplication). Batch norm is counted in
parameters only: for inference it is folded into the convolution before it. A layer that reads a static image is charged
anew in each step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bcgraph import notebook, projections, schema, shapes
from bcgraph.equations.neuron import SPIKES
from bcgraph.layers import STANDARD
from bcgraph.schema import NetworkSpec, Place
from bcgraph.shapes import Shape

if TYPE_CHECKING:
    from pandas import DataFrame

ACCUMULATE = 0.9e-12
MULTIPLY_ACCUMULATE = 4.6e-12
SRAM = 5e-12
"""Joules to move 32 bits from or to a memory of 8 KB in 45 nm: half of the 10 pJ of 64 bits (Horowitz, ISSCC 2014)."""

# By port, by step: the share of neurons that fire.
Rates = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution or linear layer, of the backbone or of a projection, for one sample.

    `reads` is the number of the port whose spikes it reads, None when it reads numbers; `also` are the ports whose
    spikes are added to those before. `steps` is in how many steps it is computed, `delay` by how many its input is
    late. `operations` are multiply-accumulates in one step.
    """

    name: str
    kind: str
    parameters: int
    operations: int
    steps: int
    reads: int | None = None
    delay: int = 0
    also: tuple[int, ...] = ()

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports whose spikes it reads, added up; none for a layer that reads numbers."""
        return () if self.reads is None else (self.reads, *self.also)

    def sparsity(self, rates: Rates) -> float | None:
        """The share of operations that no spike asks for; None for a layer that reads numbers, or in no step."""
        total = self.operations * self.steps
        return None if self.reads is None or not total else 1.0 - self.synaptic(rates) / total

    def computed(self, step: int) -> bool:
        """Whether it is computed in `step`, counted from 0: a connection is not before there is anything to read."""
        return step >= self.delay

    def synaptic(self, rates: Rates, step: int | None = None) -> float:
        """Accumulates in all steps, or in one: operations whose spike is there. 0 for a layer that reads numbers."""
        if step is not None:
            arrived = math.fsum(rates[port][step - self.delay] for port in self.ports) if self.computed(step) else 0.0
            return self.operations * arrived
        return self.operations * math.fsum(rate for port in self.ports for rate in rates[port][: self.steps])


@dataclass(frozen=True, slots=True)
class Port:
    """A layer of neurons: its name, the shape of its current, and the firing rate in each step, where measured."""

    name: str
    shape: Shape
    rates: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """What the step form carries from one step to the next, for one sample: `values` numbers, and what they are."""

    name: str
    values: int
    meaning: str


@dataclass(frozen=True, slots=True)
class Connection:
    """What one connection adds: `parameters` with its norms, `state_values` between the steps.

    `layers` are those of its projection that compute.
    """

    word: str
    source: int
    target: int
    delay: int
    parameters: int
    state_values: int
    layers: tuple[Layer, ...]

    @property
    def place(self) -> Place:
        """What tells it from the others."""
        return self.word, self.source, self.target, self.delay

    @property
    def operations(self) -> int:
        """Multiply-accumulates in one step."""
        return sum(layer.operations for layer in self.layers)


@dataclass(frozen=True, slots=True)
class StepCost:
    """One step of one sample: multiply-accumulates were nothing sparse, and as measured accumulates and joules."""

    operations: int
    synaptic: float | None = None
    energy: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """The costs of one network and one sample."""

    network: str
    steps: int
    parameters: int
    layers: tuple[Layer, ...]
    ports: tuple[Port, ...]
    connections: tuple[Connection, ...]
    states: tuple[State, ...]

    def to_frame(self) -> DataFrame:
        """A pandas frame with a row for each layer. Raises RunError (E092) where pandas is not installed."""
        return notebook.frame(self.as_data()["layers"])

    def _repr_html_(self) -> str:
        """What a notebook shows: the sums, and the layers."""
        sums = (
            f"{self.parameters:,} parameters, {self.operations:,} operations a step, {self.state_values:,} state values"
        )
        return f"<p>{sums}</p>{notebook.table(self.as_data()['layers'], most=100)}"

    @property
    def operations(self) -> int:
        """Multiply-accumulates of one step with all projections, were nothing sparse."""
        return sum(layer.operations for layer in self.layers)

    @property
    def state_values(self) -> int:
        """Numbers that the step form carries from one step to the next."""
        return sum(state.values for state in self.states)

    @property
    def measured(self) -> bool:
        """Whether there are firing rates, and so synaptic operations and energies."""
        return all(port.rates for port in self.ports)

    @property
    def rates(self) -> Rates:
        """Firing rates by port and step."""
        return tuple(port.rates for port in self.ports)

    def energy(
        self,
        layer: Layer,
        accumulate: float = ACCUMULATE,
        multiply_accumulate: float = MULTIPLY_ACCUMULATE,
        step: int | None = None,
    ) -> float:
        """Joules that `layer` takes in all steps, or in one, for the given joules an operation."""
        if layer.reads is None:
            times = layer.steps if step is None else int(layer.computed(step))
            return layer.operations * times * multiply_accumulate
        return layer.synaptic(self.rates, step) * accumulate

    def words(self, layer: Layer | None = None) -> float:
        """Numbers that `layer` moves in all steps of a sample: a weight for each operation that is computed.

        Without a layer it is the whole network, with each value of state read and written once in each step.
        """
        if layer is None:
            return math.fsum(map(self.words, self.layers)) + 2.0 * self.state_values * self.steps
        return layer.synaptic(self.rates) if layer.ports else float(layer.operations * layer.steps)

    def by_step(
        self, accumulate: float = ACCUMULATE, multiply_accumulate: float = MULTIPLY_ACCUMULATE
    ) -> tuple[StepCost, ...]:
        """What each step takes. The steps before a connection's delay are cheaper, and firing rates change."""
        costs = []
        for t in range(self.steps):
            operations = sum(layer.operations for layer in self.layers if layer.computed(t))
            if not self.measured:
                costs.append(StepCost(operations))
                continue
            synaptic = math.fsum(layer.synaptic(self.rates, t) for layer in self.layers)
            energy = math.fsum(self.energy(layer, accumulate, multiply_accumulate, t) for layer in self.layers)
            costs.append(StepCost(operations, synaptic, energy))
        return tuple(costs)

    def as_data(
        self, accumulate: float = ACCUMULATE, multiply_accumulate: float = MULTIPLY_ACCUMULATE
    ) -> dict[str, Any]:
        """Everything as plain data, for `--json`. Energies in joules a sample, states in values a sample."""
        layers = [self._layer(layer, accumulate, multiply_accumulate) for layer in self.layers]
        total = {key: sum(entry[key] for entry in layers) for key in ("synaptic", "energy")} if self.measured else {}
        return {
            "network": self.network,
            "steps": self.steps,
            "parameters": self.parameters,
            "operations": self.operations,
            "state_values": self.state_values,
            **total,
            "by_step": [_given(asdict(cost)) for cost in self.by_step(accumulate, multiply_accumulate)],
            "layers": layers,
            **{
                word: [
                    self._connection(each, accumulate, multiply_accumulate)
                    for each in self.connections
                    if each.word == word
                ]
                for word in dict.fromkeys(("backward", *(each.word for each in self.connections)))
            },
            "states": [asdict(state) for state in self.states],
            "ports": [{"name": port.name, "shape": list(port.shape), "rates": list(port.rates)} for port in self.ports],
        }

    def _connection(self, each: Connection, accumulate: float, multiply_accumulate: float) -> dict[str, Any]:
        layers = [self._layer(layer, accumulate, multiply_accumulate) for layer in each.layers]
        first: dict[str, Any] = layers[0] if layers else {"name": None, "kind": each.word, "reads": None}
        total = {key: sum(layer[key] for layer in layers) for key in ("synaptic", "energy")} if self.measured else {}
        return {
            "source": each.source,
            "target": each.target,
            "delay": each.delay,
            "name": first["name"],
            "kind": each.word,
            "parameters": each.parameters,
            "operations": each.operations,
            "steps": max(0, self.steps - each.delay),
            "reads": first["reads"],
            **total,
            "state_values": each.state_values,
        }

    def _layer(self, layer: Layer, accumulate: float, multiply_accumulate: float) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": layer.name,
            "kind": layer.kind,
            "parameters": layer.parameters,
            "operations": layer.operations,
            "steps": layer.steps,
            "reads": layer.reads,
            **({"also": list(layer.also)} if layer.also else {}),
        }
        if self.measured:
            found["sparsity"] = layer.sparsity(self.rates)
            found["synaptic"] = layer.synaptic(self.rates)
            found["energy"] = self.energy(layer, accumulate, multiply_accumulate)
        return found


def profile(spec: NetworkSpec, rates: Mapping[tuple[int, int], float] | None = None) -> Profile:
    """The costs of `spec`, with synaptic operations and energies when `rates` by (port, step) are given."""
    return _profile(spec, rates or {}, _states(spec))


def size(spec: NetworkSpec) -> tuple[int, int]:
    """The parameters of `spec` and its operations per sample and step, as `profile` counts them; compiles nothing."""
    counted = _profile(spec, {}, ())
    return counted.parameters, counted.operations


def _profile(spec: NetworkSpec, measured: Mapping[tuple[int, int], float], states: tuple[State, ...]) -> Profile:
    form = spec.input
    counter = _Counter(spec.steps)
    counter.body(spec.backbone.body, form.shape, ())
    ports = tuple(
        Port(name, shape, tuple(measured[(number, t)] for t in range(spec.steps)) if measured else ())
        for number, (name, shape) in enumerate(zip(spec.ports, counter.ports, strict=True))
    )
    prefixes = spec.prefixes()
    connections = tuple(_connection(each, prefixes[each], counter, spec, states) for each in spec.in_order)
    own = sum(layer.parameters for layer in counter.layers) + counter.norms
    return Profile(
        network=spec.name,
        steps=spec.steps,
        parameters=own + sum(connection.parameters for connection in connections),
        layers=(*counter.layers, *(layer for connection in connections for layer in connection.layers)),
        ports=ports,
        connections=connections,
        states=states,
    )


def _states(spec: NetworkSpec) -> tuple[State, ...]:
    """What the step form carries from one step to the next: membranes, and what the delays of connections hold."""
    from bcgraph.compiler import pipelines

    program = pipelines.program(spec, "step", pipelines.STATES)
    return tuple(State(state.input, math.prod(state.shape), state.meaning) for state in program.states)


class _Counter:
    """Walks a backbone in the order of the data, and keeps track of what the layers read."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.layers: list[Layer] = []
        self.ports: list[Shape] = []
        self.norms = 0
        self.counting: list[bool] = []

    def body(self, body: schema.Body, shape: Shape, reads: tuple[int, ...]) -> tuple[Shape, tuple[int, ...]]:
        """The shape after `body`, and the ports whose spikes, added up, come out of it (none: numbers)."""
        small: Shape | None = None  # what the resize just before was given
        for node in body:
            after = shapes.infer(node, shape)
            match node:
                case schema.Conv() | schema.Linear():
                    # A pointwise convolution may change places with the resize before it.
                    moves = isinstance(node, schema.Conv) and node.pointwise
                    least = min(shape, small or shape, key=math.prod) if moves else shape
                    cost = shapes.parameters(node, shape), shapes.operations(node, least)
                    self.layers.append(Layer(node.name, node.kind, *cost, self.steps, **_reading(reads)))
                    reads = ()
                case schema.BatchNorm():
                    self.norms += shapes.parameters(node, shape, self.steps)
                    reads = ()
                case schema.NeuronLayer():
                    self.norms += shapes.parameters(node, shape)
                    reads = (len(self.ports),) if node.neuron.equations.counts else ()
                    self.counting += [node.neuron.equations.counts]
                    self.ports.append(shape)
                case schema.Standard():
                    cost = shapes.parameters(node, shape), shapes.operations(node, shape)
                    if cost[1]:
                        self.layers.append(Layer(node.name, node.layer, *cost, self.steps, **_reading(reads)))
                    else:
                        self.norms += cost[0]
                    reads = reads if STANDARD[node.layer].keeps_spikes and len(reads) == 1 else ()
                case schema.Sum() | schema.Concat() | schema.Product():
                    ends = [self.body(branch, shape, reads)[1] for branch in node.branches]
                    if isinstance(node, schema.Sum):
                        # Whole numbers add up to whole numbers, as long as each of them is one.
                        reads = tuple(port for end in ends for port in end) if all(ends) else ()
                    else:
                        reads = ends[0] if len(set(ends)) == 1 and len(ends[0]) == 1 else ()
                case schema.Pool() | schema.AdaptivePool() if after != shape and ("avg" in node.kind or len(reads) > 1):
                    reads = ()
                case _:  # The maximum of spikes is a spike; flattening, resizing and dropout change nothing.
                    pass
            small = shape if isinstance(node, schema.Resize) else None
            shape = after
        return shape, reads


def _connection(
    each: schema.Connection, prefix: str, counter: _Counter, spec: NetworkSpec, states: tuple[State, ...]
) -> Connection:
    """A connection: the layers of its projection, a pointwise convolution at the smaller of the two resolutions."""
    late = max(0, spec.steps - each.delay)
    inner = _Counter(spec.steps)
    source = projections.as_map(counter.ports[each.source])
    reads = (each.source,) if each.read == SPIKES and counter.counting[each.source] else ()
    inner.body(projections.layers(spec, each, prefix), source, reads)
    layers = tuple(replace(layer, kind=each.word, steps=late, delay=each.delay) for layer in inner.layers)
    parameters = sum(layer.parameters for layer in layers) + inner.norms
    held = sum(state.values for state in states if state.name.startswith(f"{prefix}."))
    return Connection(each.word, *each.key, parameters, held, layers)


def _reading(ports: tuple[int, ...]) -> dict[str, Any]:
    """What a layer says of the ports whose spikes it reads."""
    return {"reads": ports[0], "also": ports[1:]} if ports else {}


def _given(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}
