"""The whole specification: what a `.bcg` file means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, TypeAdapter, model_serializer, model_validator

from bcgraph import connections
from bcgraph.equations.neuron import SPIKES
from bcgraph.errors import SpecError
from bcgraph.names import BACKWARD, FORWARD, projection
from bcgraph.schema.backbone import Backbone, InputSpec
from bcgraph.schema.connections import (
    BackwardConnection,
    Connection,
    ForwardConnection,
    Projection,
    Through,
    connection_of,
)
from bcgraph.schema.data import DataSpec
from bcgraph.schema.layers import NeuronLayer, walk
from bcgraph.schema.neuron import Neuron, Norm
from bcgraph.schema.search import SearchSpec
from bcgraph.schema.train import TrainSpec
from bcgraph.schema.values import Frozen, without_defaults

# Connections that the one-line form of a specification names.
_SHOWN = 8


class NetworkSpec(Frozen):
    """A whole `.bcg` file: the network, and how it is fed, trained and searched.

    Two specs are equal when they describe the same thing: the order in which backward connections are written
    does not count. `uses` are the plugins that the file names, sorted.
    """

    name: str
    uses: tuple[str, ...] = ()
    input: InputSpec
    steps: Annotated[int, Field(ge=1, le=10_000)]
    readout: Literal["mean", "last"] = "mean"
    neuron: Neuron
    norm: Norm = Norm()
    feedback: Through = Projection()
    backbone: Backbone
    backward: tuple[BackwardConnection, ...] = ()
    forward: tuple[ForwardConnection, ...] = ()
    data: DataSpec = DataSpec()
    search: SearchSpec = SearchSpec()
    train: TrainSpec = TrainSpec()

    @model_validator(mode="before")
    @classmethod
    def _neuron_of_first_layer(cls, given: Any) -> Any:
        """A specification made by hand may leave the network's neuron out: it is that of the first layer then."""
        if isinstance(given, dict) and "neuron" not in given and isinstance(given.get("backbone"), Backbone):
            layers = (n for n in walk(given["backbone"].body) if isinstance(n, NeuronLayer))
            return {**given, "neuron": next(layers).neuron}
        return given

    @model_validator(mode="after")
    def _connections(self) -> NetworkSpec:
        self._check_connections()
        if self.train.mean_squared and self.neuron.threshold is None:
            raise SpecError(
                "E041",
                f"`mean_squared` compares outputs with the threshold, which `{self.neuron.name}` does not have",
                hint="leave `mean_squared` out",
            )
        return self

    def _check_connections(self) -> None:
        seen: set[Hashable] = set()
        ports = len(self.backbone.ports)
        for some in (self.backward, self.forward):
            for each in some:
                source, target, sole = each.source, each.target, self._sole(each)
                # What is right is told quickly: a search makes many specifications.
                right = source < ports and target < ports and (source < target) == (each.word == FORWARD)
                if not right or sole in seen or each.read != SPIKES:
                    error = (
                        connections.unknown_number(source, ports, each.span)
                        or connections.unknown_number(target, ports, each.span)
                        or connections.wrong_way(each.word, source, target, each.span)
                        or (connections.repeated(*each.place, each.span) if sole in seen else None)
                        or connections.unreadable(each.read, self.neuron_of(source), each.span)
                    )
                    if error is not None:
                        raise error
                seen.add(sole)

    def _sole(self, connection: Connection) -> Hashable:
        """What no two connections of the network may share."""
        return connection.place

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        found = without_defaults(dump(self), feedback=_plain(Projection()), forward=())
        return found if self.uses else {name: value for name, value in found.items() if name != "uses"}

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of the layers of neurons in topological order; a port's number is its index."""
        return self.backbone.ports

    def with_backward(
        self, backward: Iterable[BackwardConnection | tuple[int, int] | tuple[int, int, int]]
    ) -> NetworkSpec:
        """The same network with exactly these backward connections.

        Each is a `BackwardConnection` or a tuple `(source, target)` or `(source, target, delay)`. Raises
        SpecError when one is not on the network, does not run backward, or repeats another.
        """
        return self._connected(backward=tuple(connection_of(each, BackwardConnection) for each in backward))

    def with_connections(
        self,
        backward: Iterable[BackwardConnection | tuple[int, int] | tuple[int, int, int]] = (),
        forward: Iterable[ForwardConnection | tuple[int, int] | tuple[int, int, int]] = (),
    ) -> NetworkSpec:
        """The same network with exactly these backward and forward connections, given as in `with_backward`."""
        return self._connected(
            backward=tuple(connection_of(each, BackwardConnection) for each in backward),
            forward=tuple(connection_of(each, ForwardConnection) for each in forward),
        )

    def _connected(self, **some: tuple[Connection, ...]) -> NetworkSpec:
        """The network with other connections, which are checked; all else has been."""
        made = self.model_copy(update=some)
        made._check_connections()
        return made

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections: the backward ones and then the forward ones, in the order in which they are given."""
        return (*self.backward, *self.forward)

    def neuron_of(self, port: int) -> Neuron:
        """The neuron of a port."""
        return [layer for layer in walk(self.backbone.body) if isinstance(layer, NeuronLayer)][port].neuron

    @property
    def in_order(self) -> tuple[Connection, ...]:
        """All connections in their one order: the backward ones and then the forward ones, each sorted."""
        return tuple(sorted(self.connections, key=lambda each: each.place))

    def through(self, connection: Connection) -> Through:
        """What a connection runs through: its own projection, or the one that the network gives to all."""
        return self.feedback if connection.through is None else connection.through

    def gain(self, connection: Connection) -> float | None:
        """The first scale of a connection's last norm; None where its projection has no norm."""
        return self.through(connection).gain if connection.gain is None else connection.gain

    def prefixes(self) -> dict[Connection, str]:
        """For each connection the beginning of its parameters' names: `backward.4_0`.

        Of several connections between the same ports all but the one of the shortest delay have it in their name.
        """
        found: dict[Connection, str] = {}
        taken: set[tuple[str, int, int]] = set()
        for each in self.in_order:
            word, source, target, delay = each.place
            further = (word, source, target) in taken
            found[each] = projection(source, target, word=word, delay=delay if further else None)
            taken.add((word, source, target))
        return found

    @property
    def gains(self) -> tuple[tuple[int, int, float], ...]:
        """Source, target and gain of each backward connection that does not start with the paper's 1."""
        found = ((bc.source, bc.target, self.gain(bc)) for bc in self.in_order if bc.word == BACKWARD)
        return tuple((source, target, gain) for source, target, gain in found if gain is not None and gain != 1.0)

    def fingerprint(self) -> str:
        """A digest of the network alone (not of data, search or training): weights fit when it is equal.

        The gains of connections are not part of it: they are where weights start, not what they fit.
        """
        content = {
            "input": _plain(self.input),
            "steps": self.steps,
            "readout": self.readout,
            "norm": _plain(self.norm),
            "neuron": _plain(self.neuron),
            "backbone": self.backbone.digest,
            "backward": sorted(bc.key for bc in self.backward),
        }
        # What came later is left out where it is not used, so that older weights go on fitting.
        wired = [(*each.place, *_wiring(self, each)) for each in self.connections]
        if more := sorted(each for each in wired if each[0] != "backward" or each[4:] != _PLAIN):
            content["connections"] = more
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def __repr__(self) -> str:
        """One line: `bcgraph.format(spec)` has everything."""
        image = self.input
        shape = f"{image.kind}({', '.join(map(str, image.shape))})"
        shown = [str(bc) for bc in self.backward[:_SHOWN]]
        more = len(self.backward) - len(shown)
        backward = ", ".join([*shown, *([f"{more} more"] if more else [])]) or "none"
        forward = f", {len(self.forward)} forward" if self.forward else ""
        return (
            f"<NetworkSpec {self.name}: {shape}, T = {self.steps}, {self.backbone.call}, {len(self.ports)} ports, "
            f"backward: {backward}{forward}>"
        )

    __str__ = __repr__

    def _repr_svg_(self) -> str | None:
        """The picture that a notebook shows, as `bcgraph.draw` draws it."""
        import bcgraph

        return bcgraph.draw(self)

    def _key(self) -> tuple[Any, ...]:
        # A connection means the same whether the gain is its own or the network's.
        wired = {
            name: tuple(sorted((each.key, _wiring(self, each), self.gain(each)) for each in some))
            for name, some in (("backward", self.backward), ("forward", self.forward))
        }
        return tuple(wired.get(name, value) for name, value in self.__dict__.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NetworkSpec) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


_PLAIN = ("add", SPIKES, "")
"""How a connection is wired that has nothing but the paper's."""


def _wiring(spec: NetworkSpec, connection: Connection) -> tuple[str, str, str]:
    """Join, what is read, and a digest of the projection, whose gain does not count; empty for the paper's."""
    through = spec.through(connection)
    if isinstance(through, Projection):
        digest = "" if through.kernel == 1 else f"project(kernel={through.kernel})"
    else:
        digest = through.digest
    return connection.join, connection.read, digest


def _plain(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")
