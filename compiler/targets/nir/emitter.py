"""Target NIR: the temporal graph as nodes and edges of the Neuromorphic Intermediate Representation.

NIR is the network of one step, like the temporal graph. It has no sum: edges that arrive together add up. It has no
number on an edge: one that leads back is a plain edge, and delayed by a step because it closes a loop. So that this
edge is the right one, nodes stand in the order of the temporal graph and have names that sort in it: **an edge whose
source does not stand before its target reads the step before, and nothing in the first step.**
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np

from bcgraph import shapes
from bcgraph.compiler.export.folding import folded
from bcgraph.compiler.export.neurons import fixed
from bcgraph.compiler.export.tables import called, written
from bcgraph.compiler.ir import Node, TemporalGraph
from bcgraph.compiler.ops.neuron import equations_of
from bcgraph.compiler.targets.nir.neuron import node as neuron_node
from bcgraph.compiler.targets.nir.primitives import primitives
from bcgraph.normalization import Normalization
from bcgraph.schema import Conv
from bcgraph.shapes import Shape


@dataclass(frozen=True, slots=True)
class Wire:
    """A value as NIR knows it: the nodes that add up to it, each with a factor still to be applied, and its shape.

    The shape is that of the file, where a vector that is read as an image of 1x1 stays a vector.
    """

    terms: tuple[tuple[str, float], ...]
    shape: Shape

    def times(self, factor: float) -> Wire:
        """The value times `factor`, which is still to be applied."""
        return replace(self, terms=tuple((name, f * factor) for name, f in self.terms))


def to_nir(
    graph: TemporalGraph,
    weights: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    normalization: Normalization | None = None,
) -> nir.NIRGraph:
    """The NIR graph of `graph`, which has gone through `fold_bn` and `fuse_neuron`; `limits.py` says what may be in it.

    `weights` are the values of the state dict by name; parameters are float32. With a `normalization` the graph
    normalizes its input itself.
    """
    emitter = _Emitter(graph, weights)
    emitter.start(normalization)
    for node in graph.nodes:
        EMIT[node.op](emitter, node)
    return emitter.finish(metadata)


class _Emitter:
    def __init__(self, graph: TemporalGraph, weights: Mapping[str, np.ndarray]) -> None:
        self.graph = graph
        self.weights = weights
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.env: dict[str, Wire] = {}
        self.parameters: dict[str, np.ndarray] = {}
        self.late: list[tuple[str, str]] = []

    def start(self, normalization: Normalization | None) -> None:
        (value,) = self.graph.inputs
        self.nodes["input"] = nir.Input({"input": np.array(value.shape)})
        wire = Wire((("input", 1.0),), value.shape)
        if normalization is not None:
            mean, std = (np.array(v, dtype=np.float64) for v in (normalization.mean, normalization.std))
            wire = self.diagonal("normalization", wire, 1 / std, -mean / std)
        self.env[value.name] = wire

    def finish(self, metadata: Mapping[str, str]) -> nir.NIRGraph:
        for value, target in self.late:
            self.connect(self.plain(self.env[value], value), target)
        (output,) = self.graph.outputs
        wire = self.plain(self.env[output], output)
        self.nodes["output"] = nir.Output({"output": np.array(wire.shape)})
        self.connect(wire, "output")
        return nir.NIRGraph(self.nodes, self.edges, dict(metadata))

    def add(self, label: str, node: Any, wire: Wire, shape: Shape) -> Wire:
        """A node that reads `wire`; `label` is what the temporal graph calls it."""
        name = f"n{len(self.nodes):04d}_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in label)
        node.metadata = {"bcgraph.name": label}
        self.nodes[name] = node
        self.connect(wire, name)
        return Wire(((name, 1.0),), shape)

    def connect(self, wire: Wire, target: str) -> None:
        assert all(factor == 1.0 for _, factor in wire.terms)
        self.edges += [(name, target) for name, _ in wire.terms]

    def read(self, node: Node) -> Wire:
        (edge, *_) = node.inputs
        assert not edge.delay
        return self.env[edge.value]

    def plain(self, wire: Wire, label: str) -> Wire:
        """The same value without factors; where there is one, a node multiplies."""
        terms: list[tuple[str, float]] = []
        for name, factor in wire.terms:
            if factor != 1.0:
                scale = nir.Scale(np.full(wire.shape, factor, dtype=np.float32))
                ((name, _),) = self.add(f"{label}.scale", scale, Wire(((name, 1.0),), wire.shape), wire.shape).terms
            terms.append((name, 1.0))
        return Wire(tuple(terms), wire.shape)

    def common(self, wire: Wire, label: str) -> tuple[Wire, float]:
        """The same value with one factor for all of it, for a linear node to take into its weights."""
        factors = {factor for _, factor in wire.terms}
        if len(factors) != 1:
            return self.plain(wire, label), 1.0
        (factor,) = factors
        return Wire(tuple((name, 1.0) for name, _ in wire.terms), wire.shape), factor

    def linear_map(self, label: str, wire: Wire, weight: np.ndarray, bias: np.ndarray | None, shape: Shape) -> Wire:
        wire, factor = self.common(wire, label)
        weight = (weight * factor).astype(np.float32)
        if bias is None:
            return self.add(label, nir.Linear(weight), wire, shape)
        return self.add(label, nir.Affine(weight, bias.astype(np.float32)), wire, shape)

    def convolution(
        self,
        label: str,
        wire: Wire,
        weight: np.ndarray,
        bias: np.ndarray,
        shape: Shape,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
    ) -> Wire:
        wire, factor = self.common(wire, label)
        signal = len(wire.shape) == 2
        made = (nir.Conv1d if signal else nir.Conv2d)(
            input_shape=wire.shape[1] if signal else wire.shape[1:],
            weight=(weight * factor).astype(np.float32),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=1,
            bias=bias.astype(np.float32),
        )
        return self.add(label, made, wire, shape)

    def diagonal(self, label: str, wire: Wire, scale: np.ndarray, shift: np.ndarray) -> Wire:
        """`scale * x + shift` by channel or feature."""
        weight = np.diag(scale)
        if len(wire.shape) == 1:
            return self.linear_map(label, wire, weight, shift, wire.shape)
        return self.convolution(
            label, wire, weight.reshape(*weight.shape, *[1] * (len(wire.shape) - 1)), shift, wire.shape
        )

    # --- one method an operation ---

    def fold_norm(self, node: Node) -> None:
        self.parameters.update(zip((v.name for v in node.outputs), folded(node, self.weights), strict=True))

    def conv(self, node: Node) -> None:
        layer, wire = node.attrs["layer"], self.read(node)
        if len(node.inputs) > 1:
            weight = self.parameters[node.inputs[1].value]
            bias = self.parameters[node.inputs[2].value]
        else:
            weight = self.weights[f"{node.module}.weight"].astype(np.float64)
            bias = self.weights[f"{node.module}.bias"] if layer.bias else np.zeros(weight.shape[0])
        weight = dense(weight, layer.groups)
        if len(wire.shape) == 1:
            # The projection of a port with no spatial axes.
            met = at_one_place(weight, layer)
            self.env[node.output.name] = self.linear_map(node.name, wire, met, bias, weight.shape[:1])
            return
        window = (layer.stride, layer.padding, layer.dilation)
        self.env[node.output.name] = self.convolution(node.name, wire, weight, bias, node.output.shape, *window)

    def linear(self, node: Node) -> None:
        weight = self.weights[f"{node.module}.weight"].astype(np.float64)
        bias = self.weights[f"{node.module}.bias"] if node.attrs["layer"].bias else None
        self.env[node.output.name] = self.linear_map(node.name, self.read(node), weight, bias, node.output.shape)

    def norm(self, node: Node) -> None:
        names = (f"{node.module}.{p}" for p in ("weight", "bias", "running_mean", "running_var"))
        weight, bias, mean, var = (self.weights[name].astype(np.float64) for name in names)
        scale = weight / np.sqrt(var + node.attrs["layer"].norm.eps)
        self.env[node.output.name] = self.diagonal(node.name, self.read(node), scale, bias - mean * scale)

    def avgpool(self, node: Node) -> None:
        layer = node.attrs["layer"]
        self.pool(node, shapes.pair(layer.kernel), shapes.pair(layer.stride), shapes.pair(layer.padding))

    def adaptive(self, node: Node) -> None:
        (height, width), shape = shapes.pair(node.attrs["layer"].size), self.read(node).shape
        window = (shape[1] // height, shape[2] // width) if len(shape) > 1 else (1, 1)
        self.pool(node, window, window, (0, 0))

    def pool(self, node: Node, window: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> None:
        """An average is a sum whose factor goes into the weights after it."""
        if len(self.read(node).shape) == 1:
            # A window of a vector holds its one place, and the padding.
            self.env[node.output.name] = self.read(node).times(1 / (window[0] * window[1]))
            return
        wire, factor = self.common(self.read(node), node.name)
        made = nir.SumPool2d(np.array(window), np.array(stride), np.array(padding))
        pooled = self.add(node.name, made, wire, node.output.shape)
        self.env[node.output.name] = pooled.times(factor / (window[0] * window[1]))

    def flatten(self, node: Node) -> None:
        wire = self.read(node)
        if len(wire.shape) == 1:
            self.env[node.output.name] = wire
            return
        wire, factor = self.common(wire, node.name)
        made = nir.Flatten({"input": np.array(wire.shape)}, start_dim=0, end_dim=-1)
        self.env[node.output.name] = self.add(node.name, made, wire, node.output.shape).times(factor)

    def same(self, node: Node) -> None:
        self.env[node.output.name] = self.read(node)

    def sum(self, node: Node) -> None:
        assert not any(e.delay for e in node.inputs)
        self.env[node.output.name] = together([self.env[e.value] for e in node.inputs])

    def registered(self, node: Node) -> None:
        wire = self.plain(self.read(node), node.name)
        made = called(node, "nir", lambda name: self.weights[f"{node.module}.{name}"].astype(np.float32))
        self.env[node.output.name] = self.add(node.name, made, wire, node.output.shape)

    def standard(self, node: Node) -> None:
        wire = self.plain(self.read(node), node.name)
        made = written(node, "nir", wire.shape, lambda name: self.weights[f"{node.module}.{name}"].astype(np.float32))
        self.env[node.output.name] = self.add(node.name, made, wire, node.output.shape)

    def neuron(self, node: Node) -> None:
        count = len(equations_of(node).states)
        currents = node.inputs[: len(node.inputs) - count]
        now = [self.env[e.value] for e in currents if not e.delay]
        wire = self.plain(together(now), node.name)
        made = primitives(*fixed(node, self.weights))
        assert not isinstance(made, str)
        added = self.add(node.name, neuron_node(made, wire.shape), wire, wire.shape)
        self.env[node.outputs[0].name] = added
        self.late += [(e.value, added.terms[0][0]) for e in currents if e.delay]


def together(wires: list[Wire]) -> Wire:
    """The sum of values. NIR has no two edges between the same nodes, so one that comes twice gets a factor."""
    factors: dict[str, float] = {}
    for wire in wires:
        for name, factor in wire.terms:
            factors[name] = factors.get(name, 0.0) + factor
    return Wire(tuple(factors.items()), wires[0].shape)


def dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """The weight `[out, in, k, k]` that does without groups, which few readers know."""
    if groups == 1:
        return weight
    out, part = weight.shape[0] // groups, weight.shape[1]
    full = np.zeros((weight.shape[0], part * groups, *weight.shape[2:]), dtype=weight.dtype)
    for g in range(groups):
        full[g * out : (g + 1) * out, g * part : (g + 1) * part] = weight[g * out : (g + 1) * out]
    return full


def at_one_place(weight: np.ndarray, layer: Conv) -> np.ndarray:
    """Of the weight `[out, in, k, k]` what meets the one place of a 1x1 image: the rest meets the padding."""
    for padding, dilation in zip(shapes.pair(layer.padding), shapes.pair(layer.dilation), strict=True):
        place, between = divmod(padding, dilation)
        missed = bool(between) or place >= weight.shape[2]
        weight = np.zeros_like(weight[:, :, 0]) if missed else weight[:, :, place]
    return weight


EMIT: Mapping[str, Callable[[_Emitter, Node], None]] = {
    "conv": _Emitter.conv,
    "conv1d": _Emitter.conv,
    "linear": _Emitter.linear,
    "bn": _Emitter.norm,
    "avgpool": _Emitter.avgpool,
    "adaptive_avgpool": _Emitter.adaptive,
    "flatten": _Emitter.flatten,
    "dropout": _Emitter.same,
    "standard": _Emitter.standard,
    "registered": _Emitter.registered,
    "add": _Emitter.sum,
    "to_image": _Emitter.same,
    "to_vector": _Emitter.flatten,
    "neuron": _Emitter.neuron,
    "fold_norm": _Emitter.fold_norm,
}
