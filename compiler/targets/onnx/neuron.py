"""Neurons as local functions of an ONNX model, made from their equations, without surrogates.

A function takes the current, the states of the step before and what has one value a channel, and gives what its
equations give: spikes, then states. The first step has a function without states to read, the last one without states
to give: onnxruntime would compute them for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from bcgraph.compiler.targets.onnx.building import OPSET
from bcgraph.equations.expression import Apply, Number, Read
from bcgraph.equations.flat import Leaf, flattened, uniform_lines
from bcgraph.equations.neuron import CURRENT, Equations

DOMAIN = "bcgraph"


def neuron_function(name: str, equations: Equations, channels: Sequence[str]) -> ir.Function:
    """The local function `name`; `channels` are the keys of values by channel, its last inputs."""
    return _Writer(equations, channels).function(name)


@dataclass(slots=True)
class _Writer:
    equations: Equations
    channels: Sequence[str]
    nodes: list[ir.Node] = field(default_factory=list)
    known: dict[str, ir.Value] = field(default_factory=dict)
    numbers: dict[float, ir.Value] = field(default_factory=dict)
    calls: dict[str, Apply] = field(default_factory=dict)

    def function(self, name: str) -> ir.Function:
        flat = flattened(self.equations)
        states = [Read(state, 1).key for state in self.equations.states]
        inputs = {key: ir.Value(name=_label(key)) for key in (CURRENT, *states, *self.channels)}
        self.known = dict(inputs)
        self.calls = {line.name: line.call for line in flat.lines}
        results: list[ir.Value] = []
        narrow = uniform_lines(flat.lines, self.channels)
        for given, leaf in flat.results:
            value = self.value(leaf)
            if isinstance(leaf, Number) or leaf.key in narrow:
                shape = self.op("Shape", [self.known[CURRENT]])
                value = self.op("Expand", [value, shape])
            # A result is a value of its own, even where it is an input.
            results.append(self.op("Identity", [value]) if value in (*inputs.values(), *results) else value)
            results[-1].name = f"{_label(given)}_out"
        graph = ir.Graph(list(inputs.values()), results, nodes=self.nodes, opset_imports={"": OPSET}, name=name)
        made = ir.Function(DOMAIN, name, graph=graph, attributes=[])
        made.doc_string = str(self.equations)
        return made

    def op(self, kind: str, inputs: Sequence[ir.Value | None], *attributes: ir.Attr) -> ir.Value:
        value = ir.Value(name=f"t{len(self.nodes)}")
        self.nodes.append(ir.Node("", kind, inputs, list(attributes), outputs=[value], name=value.name))
        return value

    def value(self, leaf: Leaf) -> ir.Value:
        """The value of a line, computed where it is first asked for."""
        if isinstance(leaf, Number):
            return self.number(leaf.value)
        if leaf.key not in self.known:
            call = self.calls[leaf.key]
            self.known[leaf.key] = _EMIT[call.function](self, call)
        return self.known[leaf.key]

    def number(self, value: float) -> ir.Value:
        """A constant of the type of the current, so that a file can be converted to another one."""
        if value not in self.numbers:
            constant = self.op("Constant", [], ir.AttrFloat32("value_float", value))
            self.numbers[value] = self.op("CastLike", [constant, self.known[CURRENT]])
        return self.numbers[value]

    def operands(self, call: Apply) -> list[ir.Value]:
        return [self.value(operand) for operand in call.operands]  # type: ignore[arg-type]


def _label(key: str) -> str:
    """The name of an input: of a state, what it was a step ago."""
    return {CURRENT: "current"}.get(key, key.replace("@-1", "_before").replace("$", "k").replace(".", "_"))


Emit = Callable[[_Writer, Apply], ir.Value]


def _plain(kind: str) -> Emit:
    return lambda writer, call: writer.op(kind, writer.operands(call))


def _differs(writer: _Writer, call: Apply) -> ir.Value:
    return writer.op("Not", [writer.op("Equal", writer.operands(call))])


def _same(writer: _Writer, call: Apply) -> ir.Value:
    return writer.operands(call)[0]


def _indicator(writer: _Writer, call: Apply) -> ir.Value:
    return writer.op("CastLike", [*writer.operands(call), writer.known[CURRENT]])


def _smaller(writer: _Writer, call: Apply) -> ir.Value:
    return _bounded(writer, call, "Min")


def _larger(writer: _Writer, call: Apply) -> ir.Value:
    return _bounded(writer, call, "Max")


def _bounded(writer: _Writer, call: Apply, kind: str) -> ir.Value:
    """The smaller or the larger of two values; where one is a number, the other is clipped (see `_clip`)."""
    for number, other in (call.operands, reversed(call.operands)):
        if isinstance(number, Number):
            x, bound = writer.value(other), writer.number(number.value)  # type: ignore[arg-type]
            return writer.op("Clip", [x, bound] if kind == "Max" else [x, None, bound])
    return writer.op(kind, writer.operands(call))


def _clamp(writer: _Writer, call: Apply) -> ir.Value:
    return _clip(writer, call, writer.operands(call)[0])


def _quantize(writer: _Writer, call: Apply) -> ir.Value:
    return _clip(writer, call, writer.op("Round", writer.operands(call)[:1]))


def _clip(writer: _Writer, call: Apply, x: ir.Value) -> ir.Value:
    """`x` between two bounds. A Clip takes numbers alone.

    It is faster than Max and Min, which tools that convert a file to float16 leave in float32, between casts that they
    put in the wrong place.
    """
    _, low, high = writer.operands(call)
    if all(isinstance(bound, Number) for bound in call.operands[1:]):
        return writer.op("Clip", [x, low, high])
    return writer.op("Min", [writer.op("Max", [x, low]), high])


def _spike(writer: _Writer, call: Apply) -> ir.Value:
    """`x > 0`; of a difference, its operands are compared."""
    (x,) = call.operands
    inner = writer.calls.get(x.key) if isinstance(x, Read) else None
    if inner is not None and inner.function == "sub":
        sides = writer.operands(inner)
    else:
        sides = [writer.value(x), writer.number(0.0)]  # type: ignore[arg-type]
    return writer.op("CastLike", [writer.op("Greater", sides), writer.known[CURRENT]])


_EMIT: Mapping[str, Emit] = {
    "add": _plain("Add"),
    "sub": _plain("Sub"),
    "mul": _plain("Mul"),
    "div": _plain("Div"),
    "pow": _plain("Pow"),
    "neg": _plain("Neg"),
    "gt": _plain("Greater"),
    "ge": _plain("GreaterOrEqual"),
    "lt": _plain("Less"),
    "le": _plain("LessOrEqual"),
    "eq": _plain("Equal"),
    "ne": _differs,
    "and": _plain("And"),
    "or": _plain("Or"),
    "not": _plain("Not"),
    "where": _plain("Where"),
    "indicator": _indicator,
    "sign": _plain("Sign"),
    "exp": _plain("Exp"),
    "log": _plain("Log"),
    "sqrt": _plain("Sqrt"),
    "abs": _plain("Abs"),
    "min": _smaller,
    "max": _larger,
    "clamp": _clamp,
    "floor": _plain("Floor"),
    "round": _plain("Round"),
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "softplus": _plain("Softplus"),
    "relu": _plain("Relu"),
    "detach": _same,
    "spike": _spike,
    "quantize": _quantize,
}
"""How each function becomes ONNX operations."""
