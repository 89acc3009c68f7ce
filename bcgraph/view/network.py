"""What the page of a network shows: its picture, its costs, and the firing rates that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from bcgraph import data, dsl, files
from bcgraph.dsl.source import read
from bcgraph.errors import RunError, SpecError
from bcgraph.profile import Profile, profile
from bcgraph.schema import BackwardConnection, Connection, ForwardConnection, NetworkSpec, NeuronLayer, Place, walk
from bcgraph.view.edit import rewire
from bcgraph.viz import arcs

Rates = Mapping[tuple[int, int], float]

KINDS: dict[str, type[BackwardConnection] | type[ForwardConnection]] = {
    kind.word: kind for kind in (BackwardConnection, ForwardConnection)
}
BATCHES = 2
"""Test batches that spikes are measured on."""


@dataclass
class NetworkPage:
    """A network on the page. `path` is its file, None where it belongs to a run and cannot be saved."""

    spec: NetworkSpec
    name: str
    path: Path | None = None
    weights: Path | None = None
    text: str = ""
    rates: dict[frozenset[Place], Rates] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    @staticmethod
    def of_file(path: Path) -> NetworkPage:
        """The network of a file. Raises SpecError."""
        return NetworkPage(dsl.load(path), path.name, path, text=read(path))

    def wired(self, given: Sequence[Any]) -> NetworkSpec:
        """The network with the connections at these places; those of the file keep what they are made of.

        Raises SpecError for a place that is none.
        """
        own = {each.place: each for each in self.spec.connections}
        found: list[Connection] = []
        for place in given:
            if not (
                isinstance(place, list)
                and len(place) == 4
                and place[0] in KINDS
                and all(type(number) is int for number in place[1:])
            ):
                raise SpecError("E060", f"{place!r} is no connection")
            key = (place[0], *place[1:])
            made = own.get(key) or _connection(*key)
            found.append(made)
        backward = [each for each in found if isinstance(each, BackwardConnection)]
        forward = [each for each in found if isinstance(each, ForwardConnection)]
        return self.spec.with_connections(backward, forward)

    def show(self, given: Sequence[Any] | None = None) -> dict[str, Any]:
        """The picture and all numbers of the network, with these connections, or those of the file."""
        spec = self.spec if given is None else self.wired(given)
        rates = self.rates.get(_places(spec))
        costs, before = profile(spec, rates), profile(self.spec)
        facts = costs.as_data()
        total = {name: facts[name] for name in ("parameters", "operations", "state_values")}
        if costs.measured:
            total["energy"] = facts["energy"]
        return {
            "name": self.name,
            "svg": arcs.svg(spec),
            "saved": self.path is not None,
            "total": total,
            "file": {name: getattr(before, name) for name in ("parameters", "operations", "state_values")},
            "measured": costs.measured,
            "ports": _ports(spec, costs),
            "connections": [_entry(each, facts) for each in spec.in_order],
        }

    def save(self, given: Sequence[Any]) -> str:
        """Write the file with these connections, formatted; its comments stay. Returns the text.

        Raises RunError (E084) where there is no file, another program has changed it, or a connection in it does not
        stand on its own.
        """
        if self.path is None:
            raise RunError("E084", "this network belongs to a run, whose files stay as they are")
        with self.lock:
            spec = self.wired(given)
            if read(self.path) != self.text:
                raise RunError("E084", f"`{self.path}` has changed since it was opened", hint="load the page again")
            text = rewire(self.text, self.spec, spec.connections, file=str(self.path))
            # What is written means what is shown, or nothing is written.
            found = dsl.parse(text, file=str(self.path))
            if found != spec:
                raise RunError("E084", f"`{self.path}` cannot be changed so", hint="change the file by hand")
            files.write_text(self.path, text)
            self.spec, self.text = found, text
            return text

    def reload(self) -> None:
        """Read the file again. Raises SpecError."""
        if self.path is not None:
            with self.lock:
                self.spec, self.text = dsl.load(self.path), read(self.path)

    def measure(self, given: Sequence[Any]) -> None:
        """Measure the firing rates of the network with these connections on test data.

        With the weights of the run where they fit, else with those that seed 0 draws. Raises DataError, WeightsError.
        """
        from bcgraph import compiler
        from bcgraph import weights as stored
        from bcgraph.firing import measure

        spec = self.wired(given)
        split = data.load(spec.data, spec.input, spec.steps).test
        model = compiler.compile(spec, seed=0)
        if self.weights is not None and _places(spec) == _places(self.spec):
            stored.apply(model, stored.load(self.weights, spec=spec))
        self.rates[_places(spec)] = measure(model, islice(split.batches(spec.data.batch), BATCHES))


def _places(spec: NetworkSpec) -> frozenset[Place]:
    return frozenset(each.place for each in spec.connections)


def _connection(word: str, source: int, target: int, delay: int) -> Connection:
    if not 0 <= delay <= 1000 or min(source, target) < 0:
        raise SpecError("E060", f"there is no connection @{source} -> @{target} with a delay of {delay}")
    if word == BackwardConnection.word and delay < 1:
        raise SpecError("E063", "a backward connection is at least one step late", hint="allowed: 1 to 1000")
    return KINDS[word](source, target, delay)


def _ports(spec: NetworkSpec, costs: Profile) -> list[dict[str, Any]]:
    """Name, shape, neuron and firing rates of each port, with the costs of the layers between it and the one before."""
    cost = {layer.name: layer for layer in costs.layers}
    found: list[dict[str, Any]] = []
    layers: list[str] = []
    for node in walk(spec.backbone.body):
        if not isinstance(node, NeuronLayer):
            layers += [node.name] if node.name in cost else []
            continue
        port = costs.ports[len(found)]
        found.append(
            {
                "name": port.name,
                "shape": list(port.shape),
                "neuron": node.neuron.name,
                "layers": layers,
                "parameters": sum(cost[name].parameters for name in layers),
                "operations": sum(cost[name].operations for name in layers),
                "rates": list(port.rates),
            }
        )
        layers = []
    return found


def _entry(connection: Connection, facts: Mapping[str, Any]) -> dict[str, Any]:
    listed = facts.get(connection.word, ())
    source, target, delay = connection.key
    cost = next(c for c in listed if (c["source"], c["target"], c["delay"]) == (source, target, delay))
    return {
        "place": list(connection.place),
        "text": f"{connection.word} {connection}",
        **{name: cost[name] for name in ("parameters", "operations", "state_values")},
    }
