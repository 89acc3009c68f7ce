"""A NIR file of any writer as a text of the language with its weights, proved by running both.

A node becomes a layer. An edge that closes a loop carries the value of the step before, so what runs between two layers
of neurons over such an edge becomes a backward connection of delay 1. A neuron is taken as one step of forward Euler
of `dt` seconds. `Scale` and the sums of `SumPool2d` go into the weights after them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from bcgraph import dsl
from bcgraph.compiler.driver import compile as compile_spec
from bcgraph.compiler.targets.nir.file import require
from bcgraph.compiler.targets.nir.primitives import DT
from bcgraph.errors import Diagnostic
from bcgraph.importing.blocks import Builder, allowed, blocks, identifier
from bcgraph.importing.importer import Imported, ImportFailedError, every, parsed, written
from bcgraph.importing.layers import Layer, RefusedError
from bcgraph.importing.neurons import Activation, nir_neuron
from bcgraph.importing.nir_graph import Flat, flat, label, problem
from bcgraph.importing.record import Place
from bcgraph.importing.tree import sequence
from bcgraph.nn.defaults import ordinary_defaults

if TYPE_CHECKING:
    from bcgraph.compiler.targets.nir.runtime import State, Steps

_SAMPLES = 8
_TOLERANCE = 1e-4
_INPUTS = {3: "image", 2: "signal", 1: "vector"}


@ordinary_defaults()
def from_nir(
    path: str | Path, *, steps: int = 4, dt: float = DT, frames: bool = False, name: str | None = None
) -> Imported:
    """The network in a NIR file; `frames` says that each step is fed a frame of its own, `dt` how long a step lasts.

    The network and the graph itself run on drawn inputs in float32, for `steps` steps; `error` is the largest
    difference of an output. A membrane that meets its threshold within rounding may differ. Where half of the samples
    do, the file is refused. Raises RunError (E087) for a file that cannot be read, CompileError (E092) without the
    package `nir`, and ImportFailedError with everything that cannot be said: E113, E114 and E115 as `from_torch` does.
    """
    require()
    from bcgraph.compiler.targets.nir import reading

    place = Path(path)
    graph = reading.parse(place, reading.content(place))
    try:
        found = flat(graph)
    except RefusedError as error:
        raise ImportFailedError("E113", error.message, hint=error.hint) from None
    converter = _Converter(found, dt)
    converter.run(place)
    title = identifier(name or place.stem)
    text, state = _text(converter, title, steps, frames=frames)
    spec = parsed(text)
    complete = {**compile_spec(spec).state_dict(), **state}
    model = compile_spec(spec, dtype=torch.float32).eval()
    model.load_state_dict(complete)
    differs = _prove(converter, model, steps, frames=frames)
    return Imported(text, spec, complete, differs, tuple(dict.fromkeys(converter.notes)), ())


@dataclass(frozen=True, slots=True)
class _Value:
    """What a node gives: a layer, times a factor that what reads it takes into its weights."""

    layer: int
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class _Back:
    """A backward connection by the names of its neurons, and the nodes between them in order."""

    source: str
    target: str
    between: tuple[str, ...]


@dataclass(slots=True)
class _Converter:
    """Layers of a graph, its backward connections, and what there is to say."""

    graph: Flat
    dt: float
    layers: list[Layer] = field(default_factory=list)
    values: dict[str, _Value] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    neurons: dict[str, int] = field(default_factory=dict)
    backward: list[_Back] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: Steps = field(init=False)
    end: int = 0

    def run(self, path: Path) -> None:
        """Convert every node. Raises ImportFailedError with all that cannot be said."""
        from bcgraph.compiler.targets.nir.runtime import Steps

        problems = [
            problem(name, node, RefusedError("this kind of node cannot be expressed in the language"))
            for name, node in self.graph.nodes.items()
            if type(node).__name__ not in (*_RULES, *_NEURONS, "Input", "Output")
        ]
        problems += self._connections()
        if problems:
            raise ImportFailedError.of(problems)
        graph = _Edges(self.graph.nodes, self.graph.edges)
        self.steps = Steps(path, graph, self.dt, list(self.graph.nodes))
        first = next(iter(self.graph.nodes.values()))
        shape = tuple(int(n) for n in np.asarray(next(iter(first.input_type.values()))).reshape(-1))
        if not 1 <= len(shape) <= 3 or any(n < 1 for n in shape):
            raise ImportFailedError("E113", f"the input is {shape}, and not an image, a signal or a vector")
        given, _ = self.steps.run(torch.zeros((2, *shape)), {})
        self.shapes = {name: tuple(value.shape[1:]) for name, value in given.items()}
        self.layers.append(Layer("input", (), (), shape, (), None, Place("", None)))
        hidden = {name for each in self.backward for name in each.between}
        for name, node in self.graph.nodes.items():
            if name in hidden:
                continue
            try:
                self._node(name, node)
            except RefusedError as error:
                problems.append(problem(name, node, error))
                self.values[name] = _Value(0)
        if problems:
            raise ImportFailedError.of(problems)

    def _connections(self) -> list[Diagnostic]:
        """Find what each edge that leads back runs through."""
        problems: list[Diagnostic] = []
        for source, target in sorted(self.graph.back):
            node = self.graph.nodes[target]
            try:
                if type(node).__name__ not in _NEURONS:
                    raise RefusedError("a loop is closed here, and feedback arrives at layers of neurons")
                between: list[str] = []
                while type(self.graph.nodes[source]).__name__ not in _NEURONS:
                    if type(self.graph.nodes[source]).__name__ not in _BETWEEN:
                        kind = type(self.graph.nodes[source]).__name__
                        raise RefusedError(f"its feedback runs through a {kind}", f"known here: {', '.join(_BETWEEN)}")
                    reads = self.graph.before(source)
                    if len(reads) != 1 or len(self.graph.after(source)) != 1:
                        raise RefusedError(f"its feedback runs through `{source}`, which reads or feeds something else")
                    between.append(source)
                    (source,) = reads
                self.backward.append(_Back(source, target, tuple(reversed(between))))
            except RefusedError as error:
                problems.append(problem(target, node, error))
        pairs = [(each.source, each.target) for each in self.backward]
        twice = next((pair for pair in pairs if pairs.count(pair) > 1), None)
        if twice is not None:
            why = RefusedError(f"it has two connections from `{twice[0]}`")
            problems.append(problem(twice[1], self.graph.nodes[twice[1]], why))
        return problems

    def _node(self, name: str, node: Any) -> None:
        kind = type(node).__name__
        if kind == "Input":
            self.values[name] = _Value(0)
            return
        reads = [self.values[source] for source in self.graph.before(name)]
        if not reads:
            raise RefusedError("nothing reaches it in the first step")
        value = self._sum(reads, name)
        if kind == "Output":
            if value.factor != 1.0:
                raise RefusedError("the output is scaled, and no weights come after it")
            if len(self.shapes[name]) != 1:
                raise RefusedError(
                    f"the output is {self.shapes[name]} for a sample", "a network ends in one value a class"
                )
            self.end = value.layer
        elif kind in _NEURONS:
            self.values[name] = _Value(self._neuron(name, node, value))
            self.neurons[name] = self.values[name].layer
        else:
            self.values[name] = _RULES[kind](self, name, node, value)

    def _sum(self, reads: Sequence[_Value], name: str) -> _Value:
        if len(reads) == 1:
            return reads[0]
        if len({each.factor for each in reads}) > 1:
            raise RefusedError("values that are scaled differently are added", "scale by weights instead")
        shape = self.layers[reads[0].layer].shape
        return replace(reads[0], layer=self.add("sum", [each.layer for each in reads], shape, None, name))

    def add(
        self,
        call: str,
        inputs: Sequence[int],
        shape: tuple[int, ...],
        named: str | None,
        name: str,
        weights: Mapping[str, Tensor] | None = None,
        neuron: Activation | None = None,
        **arguments: Any,
    ) -> int:
        """A new layer of the node `name`, by its number; `named` is its own name, if it needs one."""
        parts = tuple(identifier(part) for part in named.split(".")) if named else ()
        given = tuple(arguments.items()) if neuron is None else neuron.arguments
        place = Place(name, None)
        made = Layer(call, given, tuple(inputs), shape, parts[:-1], parts[-1] if parts else None, place, weights or {})
        if neuron is not None:
            made = replace(made, neuron=True, definition=neuron.definition)
        self.layers.append(made)
        return len(self.layers) - 1

    def _neuron(self, name: str, node: Any, value: _Value) -> int:
        made = nir_neuron(node, self.dt, value.factor)
        return self.add(made.name, [value.layer], self.shapes[name], label(name, node), name, neuron=made)

    def weighted(self, name: str, node: Any, value: _Value, call: str, weight: Tensor, **arguments: Any) -> _Value:
        """A layer with weights, which take the factor of what it reads."""
        weights = {"weight": weight * value.factor}
        if hasattr(node, "bias"):
            weights["bias"] = _t(node.bias)
        given = [value.layer]
        return _Value(self.add(call, given, self.shapes[name], label(name, node), name, weights, **arguments))


@dataclass(frozen=True, slots=True)
class _Edges:
    nodes: Mapping[str, Any]
    edges: tuple[tuple[str, str], ...]


def _t(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _size(value: Any) -> Any:
    values = tuple(int(each) for each in np.asarray(value).reshape(-1))
    return values[0] if len(set(values)) == 1 else values


def _conv(c: _Converter, name: str, node: Any, value: _Value) -> _Value:
    weight, given = _t(node.weight), _window(node)
    return c.weighted(name, node, value, "conv", weight, channels=len(weight), **given)


def _window(node: Any) -> dict[str, Any]:
    """The arguments of a convolution; padding is written out where it is not that of the same size."""
    kernel = _size(np.asarray(node.weight).shape[2:])
    if isinstance(node.padding, str | bytes):
        raise RefusedError(f"its padding is said by the word {node.padding!r}", "padding is said by numbers")
    given = {"kernel": kernel, "padding": _size(node.padding)}
    for key, value in (("stride", node.stride), ("dilation", node.dilation), ("groups", node.groups)):
        if _size(value) != 1:
            given[key] = _size(value)
    if isinstance(kernel, int) and given["padding"] == (kernel - 1) * given.get("dilation", 1) // 2:
        del given["padding"]
    return given | {"bias": True}


def _linear(c: _Converter, name: str, node: Any, value: _Value) -> _Value:
    weight = _t(node.weight)
    if len(c.layers[value.layer].shape) != 1:
        raise RefusedError("a product of matrices over the last axis of an image cannot be said")
    extra = {} if hasattr(node, "bias") else {"bias": False}
    return c.weighted(name, node, value, "linear", weight, features=len(weight), **extra)


def _scale(c: _Converter, name: str, node: Any, value: _Value) -> _Value:
    values = np.unique(np.asarray(node.scale, dtype=np.float64))
    if len(values) != 1:
        raise RefusedError("it scales each place by a number of its own", "a layer with weights can")
    return replace(value, factor=value.factor * float(values[0]))


def _pool(c: _Converter, name: str, node: Any, value: _Value) -> _Value:
    kernel, padding = _size(node.kernel_size), _size(node.padding)
    given = {"kernel": kernel, "stride": _size(node.stride)} | ({"padding": padding} if padding else {})
    made = c.add("avgpool", [value.layer], c.shapes[name], None, name, **given)
    area = float(np.prod(np.broadcast_to(np.asarray(node.kernel_size), (2,))))
    return _Value(made, value.factor * (area if type(node).__name__ == "SumPool2d" else 1.0))


def _flatten(c: _Converter, name: str, node: Any, value: _Value) -> _Value:
    given, shape = c.layers[value.layer].shape, c.shapes[name]
    if shape == given:
        return value
    if len(shape) != 1:
        raise RefusedError(f"it makes {shape} of {given}", "all axes can be made one")
    return replace(value, layer=c.add("flatten", [value.layer], shape, None, name))


_RULES: Mapping[str, Callable[[_Converter, str, Any, _Value], _Value]] = {
    "Conv1d": _conv,
    "Conv2d": _conv,
    "Affine": _linear,
    "Linear": _linear,
    "Scale": _scale,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
}

_NEURONS = ("IF", "LIF", "LI", "CubaLIF", "CubaLI")

_BETWEEN = ("Conv2d", "Affine", "Linear")


def _text(c: _Converter, title: str, steps: int, *, frames: bool) -> tuple[str, dict[str, Tensor]]:
    """The text in its canonical layout, and the weights by name."""
    try:
        items = sequence(c.layers, c.end)
    except RefusedError as error:
        place = error.place or Place("", None)
        raise ImportFailedError.of([place.problem("E114", error.message, error.hint)]) from None
    layers = [each for each in every(items) if each.neuron]
    calls = {written(each) for each in layers}
    common = next(iter(calls)) if len(calls) == 1 else None
    builder = Builder(nn.Module(), lambda layer: ("neuron", []) if common else (layer.call, list(layer.arguments)))
    body = builder.body(items, (), "")
    root = title if allowed(title) else f"{title}_"
    parts = ["bcg 1", *dict.fromkeys(each.definition for each in layers if each.definition is not None)]
    parts += [
        f"block {b.name}({', '.join(b.parameters)}) {{\n" + "\n".join(b.lines) + "\n}" for b in blocks(body, root)
    ]
    state = dict(builder.weights)
    ports = {id(layer): number for number, layer in enumerate(layers)}
    said: list[str] = []
    for number, each in enumerate(c.backward):
        source, target = (ports.get(id(c.layers[c.neurons[end]])) for end in (each.source, each.target))
        if source is None or target is None:
            c.notes.append(f"the connection from `{each.source}` to `{each.target}` reaches no output and is left out")
            continue
        block, weights = _projection(c, each, f"{root}_feedback{number or ''}")
        parts.append(block)
        said.append(f"backward @{source} -> @{target} {{ through = {root}_feedback{number or ''}() }}")
        state.update({f"backward.{source}_{target}.{key}": value for key, value in weights.items()})
    shape = c.layers[0].shape
    given = f"{'sequence' if frames else _INPUTS[len(shape)]}({', '.join(map(str, shape))})"
    settings = [f"input = {given}", f"steps = {steps}", f"neuron = {common or 'lif()'}", f"backbone = {root}()", *said]
    parts.append("\n".join([f"network {title} {{", *settings, "}"]))
    return dsl.format_text("\n\n".join(parts) + "\n"), state


def _projection(c: _Converter, back: _Back, name: str) -> tuple[str, dict[str, Tensor]]:
    """The block that a connection runs through, and its weights. Between vectors a matrix is a 1x1 convolution."""
    lines: list[str] = []
    weights: dict[str, Tensor] = {}
    for number, each in enumerate(back.between):
        node = c.graph.nodes[each]
        weight = _t(node.weight)
        given = {"kernel": 1, "bias": hasattr(node, "bias")}
        if type(node).__name__ == "Conv2d":
            given = _window(node)
        else:
            weight = weight.reshape(*weight.shape, 1, 1)
        if given["bias"] and not bool((_t(node.bias) == 0).all()):
            c.notes.append(
                f"the feedback through `{each}` adds its bias from the second step on, as it adds its spikes"
            )
        key = f"conv{number or ''}"
        arguments = ", ".join(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in given.items())
        lines.append(f"{key} = conv({len(weight)}, {arguments})")
        weights[f"{key}.weight"] = weight
        if given["bias"]:
            weights[f"{key}.bias"] = _t(node.bias)
    if not lines:
        channels = c.shapes[back.target][0]
        lines, weights = [f"conv = conv({channels}, kernel=1)"], {"conv.weight": torch.eye(channels)[:, :, None, None]}
    return f"block {name}() {{\n" + "\n".join(lines) + "\n}", weights


@torch.no_grad()
def _prove(c: _Converter, model: nn.Module, steps: int, *, frames: bool) -> float:
    """The largest difference of an output from what the graph itself computes. Raises ImportFailedError (E115)."""
    draw = torch.Generator().manual_seed(0)
    lead = (steps, _SAMPLES) if frames else (_SAMPLES,)
    x = torch.rand((*lead, *c.layers[0].shape), generator=draw) * 2
    states: State = {}
    wanted = []
    for t in range(steps):
        values, states = c.steps.run(x[t] if frames else x, states)
        wanted.append(values[c.steps.output])
    expected, found = torch.stack(wanted), model(x)
    differ = (found - expected).abs().amax(dim=(0, 2))
    agree = differ <= _TOLERANCE * max(1.0, float(expected.abs().max()))
    if not float(agree.double().mean()) > 0.5:
        raise ImportFailedError("E115", f"the imported network differs from the graph by {float(differ.max()):.2g}")
    if not bool(agree.all()):
        c.notes.append(
            f"{int((~agree).sum())} of {_SAMPLES} drawn samples differ, from a membrane that meets its threshold on"
        )
    return float(differ[agree].max())
