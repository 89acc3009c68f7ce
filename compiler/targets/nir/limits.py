"""What NIR cannot say, found in the specification before anything is built.

NIR has no resize, no maximum, no concatenation and no soft reset. A delay is worse than missing: readers delay the
edge that closes a loop by one step of their own accord, so that a `Delay` of one step on it would make two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from bcgraph import projections, shapes
from bcgraph.compiler.export.neurons import at_first
from bcgraph.compiler.ir import Node, TemporalGraph
from bcgraph.compiler.lower import lower
from bcgraph.compiler.ops.layers import told_apart
from bcgraph.compiler.ops.neuron import layer_of
from bcgraph.compiler.targets.nir.primitives import primitives
from bcgraph.equations.neuron import SPIKES
from bcgraph.errors import CompileError, Diagnostic
from bcgraph.layers import STANDARD
from bcgraph.names import parse_projection
from bcgraph.schema import BackwardConnection, Connection, ForwardConnection, NetworkSpec, Resize

HINT = "`for = nir` in the search block keeps to what NIR carries; `--allow-loss` writes the rest"


@dataclass(frozen=True, slots=True)
class Loss:
    """A connection that NIR cannot say, why, and what stands in its place: a delay of 1, or nothing."""

    connection: Connection
    edge: str
    reason: str
    shortened: bool = False

    def __str__(self) -> str:
        instead = "written with a delay of 1" if self.shortened else "left out"
        return f"{self.edge}: {instead}, as {self.reason}"


def losses(spec: NetworkSpec) -> tuple[Loss, ...]:
    """The connections of `spec` that NIR cannot say as they are."""
    graph = lower(spec.with_connections())
    return tuple(loss for each in spec.in_order if (loss := _of(each, spec, graph)) is not None)


def reasons(spec: NetworkSpec) -> Callable[[Connection], str | None]:
    """What says of a connection between ports of `spec` why a NIR file cannot carry it as it is; None where it can."""
    graph, alike = lower(spec.with_connections()), {}
    values = graph.values()

    def reason(connection: Connection) -> str | None:
        if connection.delay > 1:
            return (
                f"its delay is {connection.delay}, and some readers of NIR would add the step that a loop takes to it"
            )
        ends = tuple(values[f"{spec.ports[end]}.s"].shape for end in (connection.source, connection.target))
        # What its projection is made of depends on the shapes at its ends alone, and takes the time.
        alone = (connection.through, connection.join, connection.read, connection.word, connection.delay, ends)
        if alone not in alike:
            alike[alone] = _reason(connection, spec, graph)
        if alike[alone] is not None:
            return alike[alone]
        return _opens(connection, spec, graph)

    return reason


def backbone(spec: NetworkSpec) -> Iterator[str]:
    """What in the backbone of `spec` NIR cannot say, a sentence each."""
    yield from (f"`{_called(node)}` {reason}" for node, reason in _layers(lower(spec.with_connections())))


def carried(spec: NetworkSpec, found: tuple[Loss, ...]) -> NetworkSpec:
    """`spec` as NIR says it: without what is lost, or with its delay shortened."""
    stay = [replace(each, delay=key(each, found)[3]) for each in kept(spec, found)]
    return spec.with_connections(
        [each for each in stay if isinstance(each, BackwardConnection)],
        [each for each in stay if isinstance(each, ForwardConnection)],
    )


def kept(spec: NetworkSpec, found: tuple[Loss, ...]) -> tuple[Connection, ...]:
    """The connections of `spec` that NIR carries, some of them with a delay of 1 in place of their own."""
    gone = {loss.connection for loss in found if not loss.shortened}
    return tuple(each for each in spec.connections if each not in gone)


def key(connection: Connection, found: tuple[Loss, ...]) -> tuple[str, int, int, int]:
    """The word and the key of a connection as NIR carries it."""
    shortened = any(loss.shortened for loss in found if loss.connection == connection)
    source, target, delay = connection.key
    return connection.word, source, target, 1 if shortened else delay


def check(spec: NetworkSpec, *, allow_loss: bool) -> tuple[Loss, ...]:
    """What is lost. Raises CompileError (E073) with one diagnostic for each thing that NIR cannot say.

    With `allow_loss` connections may be lost; layers of the backbone may not.
    """
    found = losses(spec)
    backbone = lower(spec.with_connections())
    wrong = [Diagnostic("E073", f"`{_called(n)}` {reason}", n.span) for n, reason in _layers(backbone)]
    if not allow_loss:
        wrong += [Diagnostic("E073", f"{loss.edge}: {loss.reason}", loss.connection.span) for loss in found]
        if found:
            wrong[-1] = replace(wrong[-1], hint=HINT)
    if wrong:
        raise CompileError.of(wrong)
    return found


def _called(node: Node) -> str:
    """A layer's name; an equation is a part of one."""
    return layer_of(node).name if node.op == "equation" else node.name


def _of(connection: Connection, spec: NetworkSpec, graph: TemporalGraph) -> Loss | None:
    source, target = spec.ports[connection.source], spec.ports[connection.target]
    edge = f"@{connection.source} -> @{connection.target} (`{source}` -> `{target}`)"
    reason = _reason(connection, spec, graph) or _opens(connection, spec, graph)
    if reason is not None:
        return Loss(connection, edge, reason)
    if connection.delay > 1:
        if any(other.key == (connection.source, connection.target, 1) for other in spec.backward):
            return Loss(connection, edge, "its delay is more than 1, and another connection of these ports has 1")
        reason = f"its delay is {connection.delay}, and some readers of NIR would add the step that a loop takes to it"
        return Loss(connection, edge, reason, shortened=True)
    return None


def _reason(connection: Connection, spec: NetworkSpec, graph: TemporalGraph) -> str | None:
    """Why NIR cannot say a connection, whatever its delay; None where it can."""
    if connection.join == "mul":
        return "it multiplies the current, and NIR has no product"
    if connection.read != SPIKES:
        return f"it sends `{connection.read}`, and a neuron of NIR gives its spikes alone"
    sent = f"{spec.ports[connection.source]}.s"
    values = graph.values()
    given, wanted = values[sent].shape, values[f"{spec.ports[connection.target]}.s"].shape
    for layer, shape in projections.walk(spec, connection, "projection"):
        if isinstance(layer, Resize):
            sizes = " to ".join("{}x{}".format(*size) for size in (shape[1:], layer.size))
            return f"it changes the resolution from {sizes}, and NIR has no resize"
        if len(given) == 1 and any(size > 1 for size in shape[1:]):
            return "it makes an image of a vector, and NIR has no such reshape"
    if len(given) < len(wanted):
        return "it feeds a vector to an image, and NIR has no such reshape"
    alone = lower(spec.with_connections(*_alone(connection)))
    inside = [reason for node, reason in _layers(alone) if parse_projection(node.name) is not None]
    if inside:
        return f"a layer of its projection {inside[0]}"
    return None


def _opens(connection: Connection, spec: NetworkSpec, graph: TemporalGraph) -> str | None:
    if connection.delay and not _reaches(graph, connection.target, f"{spec.ports[connection.source]}.s"):
        return "it closes no loop, and readers of NIR delay only what closes one"
    return None


def _alone(connection: Connection) -> tuple[tuple[BackwardConnection, ...], tuple[ForwardConnection, ...]]:
    if isinstance(connection, BackwardConnection):
        return (connection,), ()
    assert isinstance(connection, ForwardConnection)
    return (), (connection,)


def _reaches(graph: TemporalGraph, start: int, end: str) -> bool:
    """Whether `end` depends on the neurons of port `start` in the same step."""
    reached = {node.output.name for node in graph.nodes if node.op == "equation" and node.port == start}
    for node in graph.nodes:
        if any(not e.delay and e.value in reached for e in node.inputs):
            reached.update(v.name for v in node.outputs)
    return end in reached


def _layers(graph: TemporalGraph) -> Iterator[tuple[Node, str]]:
    values = graph.values()
    for node in graph.nodes:
        reason = _REASONS[node.op](node, values[node.inputs[0].value].shape) if node.op in _REASONS else None
        if reason:
            yield node, reason


def _always(reason: str) -> Callable[[Node, shapes.Shape], str | None]:
    return lambda node, shape: reason


def _uneven(node: Node, shape: shapes.Shape) -> str | None:
    if len(shape) == 2:
        return "pools a signal, which NIR does not have"
    sizes = shapes.pair(node.attrs["layer"].size)
    even = all(length % size == 0 for length, size in zip(shape[1:], sizes, strict=True))
    return None if even else f"pools {shapes.text(shape[1:])} to {shapes.text(sizes)} with windows of different sizes"


def _of_signal(what: str) -> Callable[[Node, shapes.Shape], str | None]:
    return lambda node, shape: f"{what} a signal, which NIR does not have" if len(shape) == 2 else None


def _neuron(node: Node, shape: shapes.Shape) -> str | None:
    if node.attrs["gives"] != SPIKES:
        return None
    found = primitives(*at_first(node.attrs["layer"].neuron.equations))
    return found if isinstance(found, str) else None


def _statistics(node: Node, shape: shapes.Shape) -> str | None:
    by_step = node.attrs["layer"].norm.by_step
    return f"{told_apart(node)}, which one step cannot tell apart" if by_step else None


def _rectangular(node: Node, shape: shapes.Shape) -> str | None:
    kernel = node.attrs["layer"].kernel
    said = "has a kernel that is not square, for which NIR's own library infers a wrong shape"
    return said if isinstance(kernel, tuple) else None


def _not_said(node: Node, shape: shapes.Shape) -> str | None:
    layer = node.attrs["layer"]
    return None if "nir" in STANDARD[layer.layer].emitters else f"is a `{layer.layer}`, which NIR does not have"


def _without_emitter(node: Node, shape: shapes.Shape) -> str | None:
    layer = node.attrs["layer"]
    carried = "nir" in shapes.registered(layer).value.emitters
    return None if carried else f"is a `{layer.layer}`, which is registered without an emitter for the target nir"


# Operation -> why a node of it cannot be said, if it cannot.
_REASONS: Mapping[str, Callable[[Node, shapes.Shape], str | None]] = {
    "maxpool": _always("is a maximum, which NIR does not have"),
    "adaptive_maxpool": _always("is a maximum, which NIR does not have"),
    "avgpool": _of_signal("pools"),
    "bn": _statistics,
    "to_signal": _always("takes feedback to a signal, which NIR has no such reshape for"),
    "conv": _rectangular,
    "mul": _always("is a product, which NIR does not have"),
    "standard": _not_said,
    "concat": _always("is a concatenation, which NIR does not have"),
    "adaptive_avgpool": _uneven,
    "equation": _neuron,
    "registered": _without_emitter,
}
