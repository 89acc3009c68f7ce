"""Target C: the program of one step as a C99 file and its header. One sample, no allocation, nothing but math.h.

All that a step computes lies in one struct of the caller's. A value keeps the name of the program in a comment; weights
stand in the order in which the functions of `kernels.py` read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bcgraph import shapes
from bcgraph.compiler.export.folding import affine_by_step, folded, norm_at
from bcgraph.compiler.export.neurons import fixed
from bcgraph.compiler.export.tables import written
from bcgraph.compiler.ir import Node, Program
from bcgraph.compiler.ops.neuron import layer_of
from bcgraph.compiler.targets.c import kernels
from bcgraph.compiler.targets.c.lines import Lines
from bcgraph.compiler.targets.c.neuron import Statements
from bcgraph.compiler.targets.c.places import BYTE, FLOAT, places, same_order
from bcgraph.compiler.targets.c.storage import size
from bcgraph.equations.expression import Read
from bcgraph.equations.neuron import CURRENT
from bcgraph.normalization import Normalization
from bcgraph.shapes import Shape

QUANTA = 127
"""Steps on each side of zero that a weight in 8 bits has."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: the weights, what a sample carries from step to step, and what a step needs beside."""

    weights: int
    states: int
    scratch: int


@dataclass(frozen=True, slots=True)
class Code:
    """A network in C: the lines of its parts, for `text.py` to put together. `ports` are written in this order."""

    tables: tuple[str, ...]
    functions: tuple[str, ...]
    members: tuple[str, ...]
    step: tuple[str, ...]
    ports: tuple[tuple[str, Shape, str], ...]
    memory: Memory


def scale_of(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The step `[out]` of weights in 8 bits `[out, ...]`: the largest of a channel is 127 steps."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    return np.where(largest > 0, largest / QUANTA, 1.0)


def to_c(
    program: Program,
    weights: Mapping[str, np.ndarray],
    normalization: Normalization | None = None,
    *,
    int8: bool = False,
) -> Code:
    """The C code of `program`, of the schedule `step`. Raises CompileError (E073) for what C cannot tell apart."""
    return _Emitter(program, weights, normalization, int8).code()


class _Emitter(Lines):
    """Makes the lines of a step, one method an operation."""

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, np.ndarray],
        normalization: Normalization | None,
        int8: bool,
    ) -> None:
        super().__init__()
        self.program = program
        self.weights = weights
        self.normalization = normalization
        self.int8 = int8
        frame = program.inputs[0].shape
        # The frame is copied to put channels last, or to normalize it.
        self.copied = normalization is not None or (frame[0] > 1 and size(frame[1:]) > 1)
        self.places = places(program, copied=self.copied)
        self.shape = self.places.shapes
        self.kind, self.name, self.at = self.places.kind, self.places.name, self.places.at
        self.ports: list[tuple[str, Shape, str]] = []
        self.parameters: dict[str, NDArray[np.float64]] = {}
        self.sums = 0

    def code(self) -> Code:
        places = self.places
        self.frame()
        for index, node in enumerate(self.program.nodes):
            self.index = index
            EMIT[node.op](self, node)
        for state, after in places.moves():
            self.loop(places.count(state), f"{places.name(state)}[i] = {places.name(after)}[i];")
        output = self.program.outputs[0]
        self.loop(size(self.shape[output]), f"out[i] = {places.at(output)};")
        members = [f"{places.kind(n)} {name}[{places.count(n)}];" for n, name in places.members.items()]
        kept = sum(map(places.bytes, places.states))
        scratch = [(FLOAT, "floats", places.floats), (BYTE, "bytes", places.octets), ("int32_t", "sums", self.sums)]
        members += [f"{kind} {name}[{count}];" for kind, name, count in scratch if count]
        beside = 4 * places.floats + places.octets + 4 * self.sums
        memory = Memory(self.bytes_of_weights, kept, beside)
        functions = tuple(self.functions.values())
        return Code(tuple(self.tables), functions, tuple(members), tuple(self.lines), tuple(self.ports), memory)

    def each(self, node: Node, expression: str) -> None:
        """One element after the other of a node's result."""
        kind = self.kind(node.output.name)
        made = expression if kind == FLOAT else f"({kind})({expression})"
        self.comment(node)
        self.loop(max(1, size(node.output.shape)), f"{self.name(node.output.name)}[i] = {made};")

    def frame(self) -> None:
        """The frame of the caller, `[C][H][W]`, as the network reads it."""
        frame = self.program.inputs[0]
        if not self.copied:
            return
        channels, places = frame.shape[0], size(frame.shape[1:])
        value = f"frame[c * {places} + p]"
        if self.normalization is not None:
            mean, std = (
                self.table("float", f"normalization: {part}", np.array(getattr(self.normalization, part)))
                for part in ("mean", "std")
            )
            value = f"({value} - {mean}[c]) / {std}[c]"
        self.lines += [
            f"for (int p = 0; p < {places}; p++) {{",
            f"    for (int c = 0; c < {channels}; c++) {{",
            f"        {self.name(frame.name)}[p * {channels} + c] = {value};",
            "    }",
            "}",
        ]

    # --- one method an operation ---

    def fold_norm(self, node: Node) -> None:
        self.parameters.update(zip((v.name for v in node.outputs), folded(node, self.weights), strict=True))

    def conv(self, node: Node) -> None:
        layer = node.attrs["layer"]
        bias: NDArray[np.float64] | None
        if len(node.inputs) > 1:
            weight, bias = (self.parameters[edge.value] for edge in node.inputs[1:])
        else:
            weight = self.weights[f"{node.module}.weight"].astype(np.float64)
            bias = self.weights[f"{node.module}.bias"].astype(np.float64) if layer.bias else None
        both = [_along(node, value) for value in (layer.kernel, layer.stride, layer.padding, layer.dilation)]
        rest = ((1,), (1,), (0,), (1,))
        settings = [(*found, *more)[:2] for found, more in zip(both, rest, strict=True)]
        self.weighted(node, weight, bias, [*(v for pair in settings for v in pair), layer.groups])

    def linear(self, node: Node) -> None:
        weight = self.weights[f"{node.module}.weight"].astype(np.float64)
        bias = self.weights[f"{node.module}.bias"].astype(np.float64) if node.attrs["layer"].bias else None
        self.weighted(node, weight, bias, [1, 1, 1, 1, 0, 0, 1, 1, 1])

    def weighted(
        self, node: Node, weight: NDArray[np.float64], bias: NDArray[np.float64] | None, settings: Sequence[int]
    ) -> None:
        """A convolution with weights `[out, in, ...]`, of which a linear layer is one of a single place."""
        source, groups = node.inputs[0].value, settings[-1]
        small = self.kind(source) == BYTE
        self.comment(node)
        window = self.window(self.index, node, self.shape[source], node.output.shape, settings)
        scales = scale_of(weight)
        label = f"{node.module}, {'x'.join(map(str, weight.shape))}"
        if self.int8:
            weight = np.rint(weight / scales.reshape(-1, *[1] * (weight.ndim - 1)))
        # [kernel][kernel][all channels read][channels made of a group]
        out, part = weight.shape[0] // groups, weight.shape[1]
        turned = weight.reshape(groups, out, part, -1).transpose(3, 0, 2, 1)
        table = self.table("int8_t" if self.int8 else "float", label, turned)
        biases = "0" if bias is None else self.table("float", f"{node.module}, bias", bias)
        name, text = kernels.convolution("int8" if self.int8 else "float", small)
        self.functions.setdefault(name, text)
        arguments = [window, self.name(source), table]
        if self.int8:
            arguments.append(self.table("float", f"{node.module}, scale", scales))
        arguments.append(biases)
        if self.int8 and small:
            arguments.append("s->sums")
            self.sums = max(self.sums, size(node.output.shape))
        self.lines.append(f"{name}({', '.join([*arguments, self.name(node.output.name)])});")

    def norm(self, node: Node) -> None:
        layer = node.attrs["layer"]
        if node.attrs.get("counted"):
            self.norm_by_number(node)
            return
        parts = [norm_at(node, p, self.weights) for p in ("weight", "bias", "running_mean", "running_var")]
        names = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, var = (
            (self.weights[f"{node.module}.{n}"] if p is None else p).astype(np.float64)
            for n, p in zip(names, parts, strict=True)
        )
        factor = weight / np.sqrt(var + layer.norm.eps)
        scale = self.table("float", f"{node.module}, scale", factor)
        shift = self.table("float", f"{node.module}, shift", bias - mean * factor)
        channels = node.output.shape[0]
        x, *exists = (edge.value for edge in node.inputs)
        value = f"{self.at(x)} * {scale}[i % {channels}] + {shift}[i % {channels}]"
        self.each(node, f"{self.name(exists[0])}[0] != 0 ? {value} : 0.0f" if exists else value)

    def norm_by_number(self, node: Node) -> None:
        """A norm that tells steps apart: scaled and shifted by the row of the step, the last from T on."""
        x, *exists, count = (edge.value for edge in node.inputs)
        steps, channels = self.program.steps, node.output.shape[0]
        tables = zip(("scale", "shift"), affine_by_step(node, self.weights, steps), strict=True)
        scale, shift = (self.table("float", f"{node.module}, {part}", rows) for part, rows in tables)
        number = f"{self.name(count)}[0]"
        row = f"({number} < {steps - 1}.0f ? (int){number} : {steps - 1}) * {channels} + i % {channels}"
        value = f"{self.at(x)} * {scale}[{row}] + {shift}[{row}]"
        self.each(node, f"{self.name(exists[0])}[0] != 0 ? {value} : 0.0f" if exists else value)

    def count(self, node: Node) -> None:
        before, steps = f"{self.name(node.inputs[0].value)}[0]", f"{node.attrs['steps']}.0f"
        self.each(node, f"{before} + 1.0f < {steps} ? {before} + 1.0f : {steps}")

    def present(self, node: Node) -> None:
        x, exists = (edge.value for edge in node.inputs)
        self.each(node, f"{self.name(exists)}[0] != 0 ? {self.at(x)} : 0.0f")

    def pool(self, node: Node) -> None:
        layer = node.attrs["layer"]
        both = [_along(node, value) for value in (layer.kernel, layer.stride, layer.padding)]
        settings = [(*found, *more)[:2] for found, more in zip(both, ((1,), (1,), (0,)), strict=True)]
        self.pooled(node, [*(v for pair in settings for v in pair), 1, 1, 1])

    def pooled(self, node: Node, settings: Sequence[int]) -> None:
        source = node.inputs[0].value
        self.comment(node)
        window = self.window(self.index, node, self.shape[source], node.output.shape, settings)
        self.call(_POOLS[node.op], self.kind(source), window, self.name(source), self.name(node.output.name))

    def adaptive(self, node: Node) -> None:
        self.pooled(node, [0] * 8 + [1])

    def reshaped(self, node: Node) -> None:
        source = node.inputs[0].value
        given = self.shape[source]
        if same_order(node, given):
            return
        self.comment(node)
        names = (self.name(source), self.name(node.output.name))
        self.call(kernels.TURN, self.kind(source), *names, size(given[1:]), given[0])

    def add(self, node: Node) -> None:
        self.each(node, " + ".join(self.at(edge.value) for edge in node.inputs))

    def gate(self, node: Node) -> None:
        first, *rest = (self.at(edge.value) for edge in node.inputs)
        self.each(node, " * ".join([first, *(f"(1.0f + {each})" for each in rest)]))

    def product(self, node: Node) -> None:
        channels = node.output.shape[0]
        parts = []
        for edge in node.inputs:
            given = self.shape[edge.value]
            own = given[0]
            # One place, or none, holds for all places.
            place = f"i / {channels}" if size(given[1:]) > 1 else "0"
            index = "i" if given == node.output.shape else f"{place} * {own} + i % {channels} * {own} / {channels}"
            parts.append(self.at(edge.value, index))
        self.each(node, " * ".join(parts))

    def concat(self, node: Node) -> None:
        total, start = node.output.shape[0], 0
        places = size(node.output.shape[1:])
        target, kind = self.name(node.output.name), self.kind(node.output.name)
        self.comment(node)
        for edge in node.inputs:
            own = self.shape[edge.value][0]
            value = f"({kind}){self.name(edge.value)}[i]"
            self.loop(places * own, f"{target}[i / {own} * {total} + i % {own} + {start}] = {value};")
            start += own

    def resize(self, node: Node) -> None:
        source = node.inputs[0].value
        (channels, height, width), (_, *after) = self.shape[source], node.output.shape
        names = (self.name(source), self.name(node.output.name))
        self.comment(node)
        self.call(kernels.NEAREST, self.kind(source), *names, height, width, channels, *after)

    def standard(self, node: Node) -> None:
        channels = node.output.shape[0]
        (edge,) = node.inputs

        def weight(name: str) -> str:
            table = self.table("float", f"{node.module}.{name}", self.weights[f"{node.module}.{name}"])
            return f"{table}[i % {channels}]"

        text = written(node, "c", self.shape[edge.value], self.at(edge.value), weight)
        self.each(node, str(text))

    def one(self, node: Node) -> None:
        self.each(node, "1.0f")

    def zeros(self, node: Node) -> None:
        self.each(node, "0.0f")

    def neuron(self, node: Node) -> None:
        equations, arrays = fixed(node, self.weights)
        reads = [edge.value for edge in node.inputs]
        count = len(equations.states)
        currents, states = (reads[:-count], reads[-count:]) if count else (reads, [])
        shape = node.outputs[0].shape
        body = []
        known = {CURRENT: "current"}
        if equations.reads_current:
            body.append(f"const float current = {' + '.join(self.at(name) for name in currents)};")
        for state, name in zip(equations.states, states, strict=True):
            known[Read(state, 1).key] = f"{_plain(state)}_before"
            body.append(f"const float {_plain(state)}_before = {self.at(name)};")
        owner = layer_of(node).name
        for key, values in arrays.items():
            table = self.table("float", f"{owner}.{key}", values)
            known[key] = f"{table}[i % {shape[0]}]"
        statements = Statements(equations, known)
        results = statements.results()
        body += statements.lines
        for value, given in zip(node.outputs, equations.gives, strict=True):
            cast = "" if self.kind(value.name) == FLOAT else f"({self.kind(value.name)})"
            made = results[given]
            body.append(f"{self.name(value.name)}[i] = {cast}{made if not cast else f'({made})'};")
        self.comment(node)
        self.lines += [f"/*   {line} */" for line in str(equations).splitlines()]
        self.loop(size(shape), *body)
        if equations.gives[0] == "s":
            self.sent(node, owner, shape)

    def sent(self, node: Node, owner: str, shape: Shape) -> None:
        """What a port sends, for who wants to see it."""
        value = node.outputs[0].name
        self.lines += [
            "#ifdef NET_SPIKES",
            f"NET_SPIKES({len(self.ports)}, {self.name(value)}, {size(shape)});",
            "#endif",
        ]
        self.ports.append((owner, shape, self.kind(value)))


def _along(node: Node, value: int | tuple[int, int]) -> tuple[int, ...]:
    """A setting along each axis of places."""
    return shapes.pair(value)[: len(node.output.shape) - 1]


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in name)


_POOLS: Mapping[str, str] = {
    "avgpool": kernels.AVERAGE,
    "maxpool": kernels.LARGEST,
    "adaptive_avgpool": kernels.ADAPTIVE_AVERAGE,
    "adaptive_maxpool": kernels.ADAPTIVE_LARGEST,
}

EMIT: Mapping[str, Callable[[_Emitter, Node], None]] = {
    "conv": _Emitter.conv,
    "conv1d": _Emitter.conv,
    "linear": _Emitter.linear,
    "bn": _Emitter.norm,
    "avgpool": _Emitter.pool,
    "maxpool": _Emitter.pool,
    "adaptive_avgpool": _Emitter.adaptive,
    "adaptive_maxpool": _Emitter.adaptive,
    "flatten": _Emitter.reshaped,
    "dropout": _Emitter.reshaped,
    "standard": _Emitter.standard,
    "add": _Emitter.add,
    "mul": _Emitter.product,
    "gate": _Emitter.gate,
    "concat": _Emitter.concat,
    "resize": _Emitter.resize,
    "to_image": _Emitter.reshaped,
    "to_signal": _Emitter.reshaped,
    "to_vector": _Emitter.reshaped,
    "neuron": _Emitter.neuron,
    "one": _Emitter.one,
    "count": _Emitter.count,
    "present": _Emitter.present,
    "zeros": _Emitter.zeros,
    "fold_norm": _Emitter.fold_norm,
}
