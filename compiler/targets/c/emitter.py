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
from bcgraph.compiler.targets.c.neuron import Statements, number
from bcgraph.compiler.targets.c.storage import Life, placed, size, whole
from bcgraph.equations.expression import Read
from bcgraph.equations.neuron import CURRENT
from bcgraph.normalization import Normalization
from bcgraph.shapes import Shape

FLOAT, BYTE = "float", "uint8_t"
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


class _Emitter:
    """Makes the lines of a step, one method an operation."""

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, np.ndarray],
        normalization: Normalization | None,
        int8: bool,
    ) -> None:
        self.program = program
        self.weights = weights
        self.normalization = normalization
        self.int8 = int8
        self.shape = {name: v.shape for name, v in program.values().items()}
        self.whole = whole(program)
        self.tables: list[str] = []
        self.functions: dict[str, str] = {}
        self.lines: list[str] = []
        self.ports: list[tuple[str, Shape, str]] = []
        self.parameters: dict[str, NDArray[np.float64]] = {}
        self.bytes_of_weights = 0
        self.sums = 0
        # Values that are another's memory, seen with another shape.
        self.roots: dict[str, str] = {}
        self.names: dict[str, str] = {}

    def code(self) -> Code:
        states = self.states()
        self.plan(states)
        self.frame()
        for index, node in enumerate(self.program.nodes):
            self.index = index
            EMIT[node.op](self, node)
        self.copy_states(states)
        output = self.root(self.program.outputs[0])
        self.loop(size(self.shape[output]), f"out[i] = {self.at(output)};")
        members = [f"{self.kind(n)} {self.member[n]}[{max(1, size(self.shape[n]))}];" for n in states]
        kept = sum(self.bytes(name) for name in states)
        scratch = [("float", "floats", self.floats), ("uint8_t", "bytes", self.octets), ("int32_t", "sums", self.sums)]
        members += [f"{kind} {name}[{count}];" for kind, name, count in scratch if count]
        beside = 4 * self.floats + self.octets + 4 * self.sums
        memory = Memory(self.bytes_of_weights, kept, beside)
        functions = tuple(self.functions.values())
        return Code(tuple(self.tables), functions, tuple(members), tuple(self.lines), tuple(self.ports), memory)

    # --- memory ---

    def states(self) -> dict[str, str]:
        """For each state, the value that it is next."""
        return {s.input: s.output for s in self.program.states}

    def plan(self, states: Mapping[str, str]) -> None:
        """Give each value its place: that of a state, or one in the arrays of a step."""
        self.member = {name: f"state{index}" for index, name in enumerate(states)}
        self.names.update({name: f"s->{member}" for name, member in self.member.items()})
        for node in self.program.nodes:
            if node.op in _ALIASES and self.same_places(node):
                self.roots[node.output.name] = self.root(node.inputs[0].value)
        last: dict[str, int] = {}
        first: dict[str, int] = {}
        for index, node in enumerate(self.program.nodes):
            for edge in node.inputs:
                last[self.root(edge.value)] = index
            for value in node.outputs:
                first.setdefault(self.root(value.name), index)
                last.setdefault(self.root(value.name), index)
        end = len(self.program.nodes)
        last[self.root(self.program.outputs[0])] = end
        frame = self.program.inputs[0].name
        # What a state becomes is written in its own place, where nothing reads the old value any more.
        for name, output in states.items():
            held = self.root(output)
            if self.in_place(name, held, first, last, states):
                self.names[held] = self.names[name]
            else:
                last[held] = end
        own = [n for n in first if n not in self.names and n not in self.weights_made and n != frame]
        if self.turned:
            own.append(frame)
            first[frame] = -1
        lives = [Life(n, self.kind(n), max(1, size(self.shape[n])), first[n], last.get(n, first[n])) for n in own]
        floats, self.floats = placed([life for life in lives if life.kind == FLOAT])
        octets, self.octets = placed([life for life in lives if life.kind == BYTE])
        self.names.update({name: f"(s->floats + {place})" for name, place in floats.items()})
        self.names.update({name: f"(s->bytes + {place})" for name, place in octets.items()})
        if not self.turned:
            self.names[frame] = "frame"

    def in_place(
        self, state: str, value: str, first: Mapping[str, int], last: Mapping[str, int], states: Mapping[str, str]
    ) -> bool:
        """Whether `value`, the next one of `state`, can be written over it."""
        if value in self.names or value not in first or state in map(self.root, states.values()):
            return False
        if list(map(self.root, states.values())).count(value) > 1:
            return False
        read, made = last.get(state, -1), first[value]
        # A neuron reads an element before it writes it.
        return read < made or (read == made and self.program.nodes[made].op == "neuron")

    @property
    def weights_made(self) -> frozenset[str]:
        """The values that are weights."""
        return frozenset(v.name for n in self.program.nodes if n.op == "fold_norm" for v in n.outputs)

    @property
    def turned(self) -> bool:
        """Whether the frame is copied: put channels last, or normalized."""
        shape = self.program.inputs[0].shape
        return self.normalization is not None or (shape[0] > 1 and size(shape[1:]) > 1)

    def same_places(self, node: Node) -> bool:
        """Whether a value in another shape has its numbers in the same order."""
        given = self.shape[node.inputs[0].value]
        return node.op in ("dropout", "to_image", "to_signal") or size(given[1:]) == 1 or given[0] == 1

    def root(self, name: str) -> str:
        return self.roots.get(name, name)

    def kind(self, name: str) -> str:
        """The C type of a value."""
        return BYTE if self.root(name) in self.whole else FLOAT

    def bytes(self, name: str) -> int:
        return max(1, size(self.shape[name])) * (1 if self.kind(name) == BYTE else 4)

    def name(self, value: str) -> str:
        """The C expression of a value's array."""
        return self.names[self.root(value)]

    def at(self, value: str, index: str = "i") -> str:
        """An element of a value, as a float."""
        text = f"{self.name(value)}[{index}]"
        return text if self.kind(value) == FLOAT else f"(float){text}"

    # --- lines ---

    def comment(self, node: Node) -> None:
        self.lines.append(f"/* {node.name}: {shapes.text(node.outputs[0].shape) or 'a number'} */")

    def loop(self, count: int, *body: str) -> None:
        self.lines += [f"for (int i = 0; i < {count}; i++) {{", *(f"    {line}" for line in body), "}"]

    def each(self, node: Node, expression: str) -> None:
        """One element after the other of a node's result."""
        kind = self.kind(node.output.name)
        made = expression if kind == FLOAT else f"({kind})({expression})"
        self.comment(node)
        self.loop(max(1, size(node.output.shape)), f"{self.name(node.output.name)}[i] = {made};")

    def call(self, text: str, kind: str, *arguments: object) -> None:
        """A call of a function of `kernels`, which is then a part of the file."""
        body = kernels.typed(text, kind)
        name = body.partition("(")[0].rpartition(" ")[2]
        self.functions.setdefault(name, body)
        self.lines.append(f"{name}({', '.join(map(str, arguments))});")

    def table(self, kind: str, what: str, values: np.ndarray) -> str:
        """A constant array, by its C name."""
        name = f"w{len(self.tables)}"
        flat = values.reshape(-1)
        texts = [str(int(v)) for v in flat] if kind == "int8_t" else [number(v) for v in flat]
        step = 24 if kind == "int8_t" else 8
        rows = [", ".join(texts[i : i + step]) for i in range(0, len(texts), step)]
        self.tables.append(
            f"/* {what} */\nstatic const {kind} {name}[{len(flat)}] = {{\n    " + ",\n    ".join(rows) + "\n};"
        )
        self.bytes_of_weights += len(flat) * (1 if kind == "int8_t" else 4)
        return name

    def window(self, node: Node, given: Shape, made: Shape, settings: Sequence[int]) -> str:
        """A `window_t` with these sizes: channels, height and width before and after, then `settings`."""
        self.functions = {"window_t": kernels.WINDOW} | self.functions
        numbers = ", ".join(map(str, (*_image(given), *_image(made), *settings)))
        name = f"n{self.index}"
        self.tables.append(f"/* {node.name} */\nstatic const window_t {name} = {{{numbers}}};")
        return f"&{name}"

    def frame(self) -> None:
        """The frame of the caller, `[C][H][W]`, as the network reads it."""
        frame = self.program.inputs[0]
        if not self.turned:
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

    def copy_states(self, states: Mapping[str, str]) -> None:
        """What each state is next; of a chain of delays the oldest first."""
        moved = [(n, o) for n, o in states.items() if self.names[n] != self.name(o)]
        while moved:
            # One whose old value no other still waits for.
            ready = next((m for m in moved if not any(self.root(o) == m[0] for _, o in moved)), moved[0])
            moved.remove(ready)
            name, output = ready
            self.loop(max(1, size(self.shape[name])), f"{self.names[name]}[i] = {self.name(output)}[i];")

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
        window = self.window(node, self.shape[source], node.output.shape, settings)
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
        window = self.window(node, self.shape[source], node.output.shape, settings)
        self.call(_POOLS[node.op], self.kind(source), window, self.name(source), self.name(node.output.name))

    def adaptive(self, node: Node) -> None:
        self.pooled(node, [0] * 8 + [1])

    def reshaped(self, node: Node) -> None:
        source = node.inputs[0].value
        if self.same_places(node):
            return
        given = self.shape[source]
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


def _image(shape: Shape) -> tuple[int, int, int]:
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width


def _along(node: Node, value: int | tuple[int, int]) -> tuple[int, ...]:
    """A setting along each axis of places."""
    return shapes.pair(value)[: len(node.output.shape) - 1]


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in name)


_ALIASES = frozenset({"dropout", "to_image", "to_signal", "to_vector", "flatten"})

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
