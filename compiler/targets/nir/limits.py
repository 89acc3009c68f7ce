"""What NIR cannot say, found in the specification before anything is built.

NIR has no resize, no maximum, no concatenation and no soft reset. A delay is worse than missing: readers delay the
edge that closes a loop by one step of their own accord, so that a `Delay` of one step on it would make two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from bcgraph import shapes
from bcgraph.compiler.export.neurons import at_first
from bcgraph.compiler.ir import Node, TemporalGraph
from bcgraph.compiler.lower import lower
from bcgraph.compiler.ops.layers import told_apart
from bcgraph.compiler.ops.neuron import layer_of
from bcgraph.compiler.targets.nir.primitives import primitives
from bcgraph.equations.neuron import SPIKES
from bcgraph.errors import CompileError, Diagnostic
from bcgraph.layers import STANDARD
from bcgraph.schema import BackwardConnection, NetworkSpec

HINT = "`same_resolution = true` in the search block keeps to what NIR carries; `--allow-loss` writes the rest"


@dataclass(frozen=True, slots=True)
class Loss:
    """A backward connection that NIR cannot say, why, and what stands in its place: a delay of 1, or nothing."""

    connection: BackwardConnection
    edge: str
    reason: str
    shortened: bool = False

    def __str__(self) -> str:
        instead = "written with a delay of 1" if self.shortened else "left out"
        return f"{self.edge}: {instead}, as {self.reason}"


def losses(spec: NetworkSpec) -> tuple[Loss, ...]:
    """The backward connections of `spec` that NIR cannot say as they are."""
    graph = lower(spec.with_backward(()))
    return tuple(loss for bc in sorted(spec.backward) for loss in _of(bc, spec, graph))


def carried(spec: NetworkSpec, found: tuple[Loss, ...]) -> NetworkSpec:
    """`spec` as NIR says it: without what is lost, or with its delay shortened."""
    lost = {loss.connection: loss for loss in found}
    kept = [replace(bc, delay=1) if bc in lost else bc for bc in spec.backward if bc not in lost or lost[bc].shortened]
    return spec.with_backward(kept)


def check(spec: NetworkSpec, *, allow_loss: bool) -> tuple[Loss, ...]:
    """What is lost. Raises CompileError (E073) with one diagnostic for each thing that NIR cannot say.

    With `allow_loss` backward connections may be lost; layers of the backbone may not.
    """
    found = losses(spec)
    wrong = [Diagnostic("E073", f"`{_called(n)}` {reason}", n.span) for n, reason in _layers(lower(spec))]
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


def _of(bc: BackwardConnection, spec: NetworkSpec, graph: TemporalGraph) -> Iterator[Loss]:
    source, target = spec.ports[bc.source], spec.ports[bc.target]
    edge = f"@{bc.source} -> @{bc.target} (`{source}` -> `{target}`)"
    values = graph.values()
    given, wanted = values[f"{source}.s"].shape, values[f"{target}.s"].shape
    if shapes.spatial(given) != shapes.spatial(wanted):
        sizes = " to ".join("{}x{}".format(*shapes.spatial(shape)) for shape in (given, wanted))
        yield Loss(bc, edge, f"it changes the resolution from {sizes}, and NIR has no resize")
    elif len(given) < len(wanted):
        yield Loss(bc, edge, "it feeds a vector to an image, and NIR has no such reshape")
    elif not _reaches(graph, bc.target, f"{source}.s"):
        yield Loss(bc, edge, "it closes no loop, and readers of NIR delay only what closes one")
    elif bc.delay > 1:
        reason = f"its delay is {bc.delay}, and some readers of NIR would add the step that a loop takes to it"
        yield Loss(bc, edge, reason, shortened=True)


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


def _norm(node: Node, shape: shapes.Shape) -> str | None:
    return _statistics(node, shape) or _of_signal("normalizes")(node, shape)


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
    "bn": _norm,
    "conv1d": _always("is a convolution of a signal, which the files of NIR that are read here do not have"),
    "to_signal": _always("takes feedback to a signal, which NIR has no such reshape for"),
    "mul": _always("is a product, which NIR does not have"),
    "standard": _not_said,
    "concat": _always("is a concatenation, which NIR does not have"),
    "adaptive_avgpool": _uneven,
    "equation": _neuron,
    "registered": _without_emitter,
}
