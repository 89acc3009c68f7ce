"""Target ONNX: a program becomes an ONNX graph, in float32, with the batch axis free.

Values keep the names of the program (`layer1.0.lif1.s@t3`), weights those of the state dict, each stored
once. A layer of neurons is a call of a local function, so that a viewer shows one box. No state lives in the file:
the step form takes its states as inputs and hands them back as outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from bcgraph import __version__, shapes
from bcgraph.compiler.export.folding import affine_by_step, folded, norm_at
from bcgraph.compiler.export.neurons import by_channel, fixed, unique
from bcgraph.compiler.export.tables import called, written
from bcgraph.compiler.ir import Node, Program, Value, free
from bcgraph.compiler.ops.layers import told_apart
from bcgraph.compiler.ops.neuron import layer_of
from bcgraph.compiler.targets.onnx.building import BATCH, FLOATS, IR_VERSION, OPSET, Build, Nodes, typed
from bcgraph.compiler.targets.onnx.neuron import DOMAIN, neuron_function
from bcgraph.equations.neuron import Equations
from bcgraph.errors import CompileError
from bcgraph.normalization import Normalization


def to_onnx(
    program: Program,
    weights: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    watch: Sequence[str] = (),
    normalization: Normalization | None = None,
) -> ir.Model:
    """The ONNX model of `program`.

    `weights` are the values of the state dict by name. `watch` names further values to give out, for comparing. With a
    `normalization` the file normalizes its input itself. Raises CompileError (E073) where ONNX has no exact
    counterpart.
    """
    return _Emitter(program, weights, normalization).model(metadata, watch)


class _Emitter(Nodes):
    """Makes the ONNX nodes of a program, one method an operation; `scan.py` builds on it."""

    def __init__(
        self, program: Program, weights: Mapping[str, np.ndarray], normalization: Normalization | None = None
    ) -> None:
        super().__init__(weights)
        self.program = program
        self.normalization = normalization
        self.functions: dict[str, ir.Function] = {}
        self.neurons: dict[str, Equations] = {}
        self.shape = {name: v.shape for name, v in program.values().items()}

    def model(self, metadata: Mapping[str, str], watch: Sequence[str]) -> ir.Model:
        inputs = [self._input(v) for v in self.program.inputs]
        self.samples = (inputs[0], 1 if self.program.inputs[0].steps else 0)
        self.env[self.program.inputs[0].name] = self.normalized(inputs[0])
        self.emit(self.program.nodes)
        outputs = [self.env[name] for name in self.program.outputs]
        # A state can be another value of the program as well: an output needs a name of its own.
        outputs = [self._named(v, n) for v, n in zip(outputs, output_names(self.program), strict=True)]
        outputs += [self.watched(name) for name in watch]
        return self.finish(inputs, outputs, metadata)

    def normalized(self, x: ir.Value) -> ir.Value:
        """The input by channel as the network takes it; itself where the caller normalizes."""
        if self.normalization is None:
            return x
        mean, std = (
            self.constant(f"normalization.{name}", np.array(values, dtype=np.float32).reshape(-1, 1, 1))
            for name, values in (("mean", self.normalization.mean), ("std", self.normalization.std))
        )
        return self.op("Div", [self.op("Sub", [x, mean], f"{x.name}.centered"), std], f"{x.name}.normalized")

    def emit(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            EMIT[node.op](self, node)

    def finish(self, inputs: list[ir.Value], outputs: list[ir.Value], metadata: Mapping[str, str]) -> ir.Model:
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self.tape.nodes,
            initializers=list(self.initializers.values()),
            opset_imports={"": OPSET, DOMAIN: 1},
            name=self.program.name,
        )
        model = ir.Model(
            graph,
            ir_version=IR_VERSION,
            producer_name="bcgraph",
            producer_version=__version__,
            functions=list(self.functions.values()),
            metadata_props=dict(metadata),
        )
        # A layer may have the name of a value that stands between the layers, such as `x.centered`.
        NameFixPass()(model)
        return model

    def _input(self, value: Value) -> ir.Value:
        lead: tuple[int | str, ...] = (value.steps, BATCH) if value.steps else (BATCH,)
        made = typed(value.name, *lead, *value.shape)
        self.env[value.name] = made
        return made

    def _named(self, value: ir.Value, name: str) -> ir.Value:
        source = value.name or ""
        made = value if source == name else self.op("Identity", [value], name)
        shape = self.shape.get(source, ())
        steps = self.program.values()[source].steps if source in self.program.values() else 0
        lead: tuple[int | str, ...] = (steps, BATCH) if steps else (BATCH,)
        made.shape = ir.Shape([*lead, *shape])
        made.type = FLOATS
        return made

    def watched(self, name: str) -> ir.Value:
        made = self.op("Identity", [self.env[name]], f"{name}.watched")
        made.shape = ir.Shape([BATCH, *self.shape[name]])
        made.type = FLOATS
        return made

    # --- one method an operation ---

    def conv(self, node: Node) -> None:
        layer = node.attrs["layer"]
        inputs = self.reads(node)
        if len(inputs) == 1:
            inputs.append(self.weight(f"{node.module}.weight"))
            if layer.bias:
                inputs.append(self.weight(f"{node.module}.bias"))
        self.put(
            node,
            "Conv",
            inputs,
            **_window(node, layer.kernel, layer.stride, layer.padding),
            dilations=_along(node, layer.dilation),
            group=layer.groups,
        )

    def linear(self, node: Node) -> None:
        inputs = [*self.reads(node), self.weight(f"{node.module}.weight")]
        if node.attrs["layer"].bias:
            inputs.append(self.weight(f"{node.module}.bias"))
        self.put(node, "Gemm", inputs, transB=1)

    def norm(self, node: Node) -> None:
        layer = node.attrs["layer"]
        if node.attrs.get("counted"):
            self.norm_by_number(node)
            return
        if layer.norm.by_step and node.step is None:
            raise CompileError(
                "E073",
                f"`{node.name}` {told_apart(node)}, which one step cannot tell apart",
                span=node.span,
                hint="export the form `unrolled`",
            )
        x, *exists = self.reads(node)
        parts = []
        for part in ("weight", "bias", "running_mean", "running_var"):
            name = f"{node.module}.{part}"
            own = norm_at(node, part, self.weights)
            parts.append(self.weight(name) if own is None else self.constant(f"{name}.t{node.step}", own))
        value = node.output.name
        normal = self.op(
            "BatchNormalization", [x, *parts], value + (".norm" if exists else ""), {"epsilon": layer.norm.eps}
        )
        self.env[value] = self.where_present(node, normal, exists[0]) if exists else normal

    def norm_by_number(self, node: Node) -> None:
        """A norm that tells steps apart: a sample is scaled and shifted by the row of its step, the last from T on."""
        x, *exists, count = self.reads(node)
        value, steps = node.output.name, self.program.steps
        last = self.constant(f"i64.scalar.{steps - 1}", np.array(steps - 1, dtype=np.int64))
        number = self.op("Cast", [count], f"{value}.number", {"to": ir.DataType.INT64})
        row = self.op("Min", [number, last], f"{value}.row")
        axes = self.integers(*range(2, len(node.output.shape) + 1)) if len(node.output.shape) > 1 else None
        found = []
        for part, table in zip(("scale", "shift"), affine_by_step(node, self.weights, steps), strict=True):
            rows = self.constant(f"{node.module}.{part}s", table.astype(np.float32))
            each = self.op("Gather", [rows, row], f"{value}.{part}", {"axis": 0})
            found.append(each if axes is None else self.op("Unsqueeze", [each, axes], f"{value}.{part}.axes"))
        scaled = self.op("Mul", [x, found[0]], f"{value}.scaled")
        normal = self.op("Add", [scaled, found[1]], value + (".norm" if exists else ""))
        self.env[value] = self.where_present(node, normal, exists[0]) if exists else normal

    def count(self, node: Node) -> None:
        (before,) = self.reads(node)
        one, most = (self.constant(f"f32.{n}", np.array(n, dtype=np.float32)) for n in (1, node.attrs["steps"]))
        more = self.op("Add", [before, one], f"{node.output.name}.more")
        # `Clip` and no `Min`: the tool that converts to float16 breaks a `Min` in the body of a Scan.
        self.put(node, "Clip", [more, None, most])

    def present(self, node: Node) -> None:
        self.env[node.output.name] = self.where_present(node, *self.reads(node))

    def where_present(self, node: Node, x: ir.Value, exists: ir.Value) -> ir.Value:
        """`x` where the flag of a sample is 1, zero where it is 0."""
        axes = self.integers(*range(1, len(node.output.shape) + 1))
        flag = self.op("Unsqueeze", [exists, axes], f"{node.output.name}.exists")
        return self.op("Mul", [x, flag], node.output.name)

    def fold_norm(self, node: Node) -> None:
        for value, array in zip(node.outputs, folded(node, self.weights), strict=True):
            self.env[value.name] = self.constant(value.name, array.astype(np.float32))

    def pool(self, node: Node) -> None:
        layer = node.attrs["layer"]
        extra = {"count_include_pad": 1} if node.op == "avgpool" else {}
        extra |= {"ceil_mode": 1} if layer.ceil else {}
        self.put(
            node,
            {"avgpool": "AveragePool", "maxpool": "MaxPool"}[node.op],
            self.reads(node),
            **_window(node, layer.kernel, layer.stride, layer.padding),
            **extra,
        )

    def adaptive(self, node: Node) -> None:
        sizes = node.output.shape[1:]
        name = {"adaptive_avgpool": "AveragePool", "adaptive_maxpool": "MaxPool"}[node.op]
        if set(sizes) == {1}:
            self.put(node, "Global" + name, self.reads(node))
            return
        given = self.shape[node.inputs[0].value][1:]
        if any(length % size for length, size in zip(given, sizes, strict=True)):
            raise CompileError(
                "E073",
                f"`{node.name}` pools {shapes.text(given)} to {shapes.text(sizes)} with windows of different sizes",
                span=node.span,
                hint="ONNX can pool to a size that divides the input's",
            )
        window = [length // size for length, size in zip(given, sizes, strict=True)]
        self.put(node, name, self.reads(node), kernel_shape=window, strides=window)

    def flatten(self, node: Node) -> None:
        self.put(node, "Flatten", self.reads(node), axis=1)

    def skip(self, node: Node) -> None:
        self.env[node.output.name] = self.env[node.inputs[0].value]

    def to_image(self, node: Node) -> None:
        axes = range(len(self.shape[node.inputs[0].value]) + 1, 4)
        self.put(node, "Unsqueeze", [*self.reads(node), self.integers(*axes)])

    def to_signal(self, node: Node) -> None:
        self.put(node, "Squeeze", [*self.reads(node), self.integers(3)])

    def add(self, node: Node) -> None:
        first, *rest = self.reads(node)
        for index, other in enumerate(rest):
            last = index == len(rest) - 1
            name = node.output.name if last else f"{node.output.name}.{index}"
            first = self.op("Add", [first, other], name)
        self.env[node.output.name] = first

    def product(self, node: Node) -> None:
        whole = node.output.shape
        result: ir.Value | None = None
        for index, (value, edge) in enumerate(zip(self.reads(node), node.inputs, strict=True)):
            name = f"{node.output.name}.{index}"
            wide = self.repeated(value, self.shape[edge.value], whole[0], name)
            missing = range(len(self.shape[edge.value]) + 1, len(whole) + 1)
            if missing:
                wide = self.op("Unsqueeze", [wide, self.integers(*missing)], f"{name}.placed")
            last = index == len(node.inputs) - 1
            result = wide if result is None else self.op("Mul", [result, wide], node.output.name if last else name)
        assert result is not None
        self.env[node.output.name] = self.op("Identity", [result], node.output.name) if index == 0 else result

    def repeated(self, value: ir.Value, given: shapes.Shape, channels: int, name: str) -> ir.Value:
        """A value of fewer channels, each of them as often as it takes for `channels`."""
        if given[0] in (1, channels):
            return value
        index = self.integers(*(i * given[0] // channels for i in range(channels)))
        return self.op("Gather", [value, index], f"{name}.wide", {"axis": 1})

    def gate(self, node: Node) -> None:
        first, *rest = self.reads(node)
        one = self.constant("f32.1.0", np.array(1.0, dtype=np.float32))
        for index, other in enumerate(rest):
            name = node.output.name
            factor = self.op("Add", [one, other], f"{name}.factor{index}")
            first = self.op("Mul", [first, factor], name if index == len(rest) - 1 else f"{name}.{index}")
        self.env[node.output.name] = first

    def concat(self, node: Node) -> None:
        self.put(node, "Concat", self.reads(node), axis=1)

    def resize(self, node: Node) -> None:
        (x,) = self.reads(node)
        given, wanted = self.shape[node.inputs[0].value][1:], node.attrs["size"]
        if all(shapes.power_of_two(a, b) for a, b in zip(given, wanted, strict=True)):
            # Scales of all four axes: onnxruntime's layout optimizer breaks a quantized Resize that names its axes.
            factors = [1.0, 1.0, *(b / a for a, b in zip(given, wanted, strict=True))]
            scales = self.constant("f32." + "_".join(map(str, factors)), np.array(factors, dtype=np.float32))
            self.put(
                node,
                "Resize",
                [x, None, scales],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            return
        # Another ratio is not exact in floating point; rows and columns are picked by number.
        for axis, (a, b) in enumerate(zip(given, wanted, strict=True), start=2):
            name = node.output.name + (".rows" if axis == 2 else "")
            x = self.op("Gather", [x, self.integers(*(i * a // b for i in range(b)))], name, {"axis": axis})
        self.env[node.output.name] = x

    def registered(self, node: Node) -> None:
        (x,) = self.reads(node)
        made = called(node, "onnx", Build(self, node), x)
        value = node.output.name
        # An input or a weight that is handed on keeps its own name.
        fresh = isinstance(made, ir.Value) and made.producer() is not None and made is not x
        if fresh:
            made.name = value
        self.env[value] = made if fresh else self.op("Identity", [made], value)

    def standard(self, node: Node) -> None:
        (edge,) = node.inputs
        made = written(node, "onnx", self.shape[edge.value], Build(self, node), self.env[edge.value])
        made.name = node.output.name
        self.env[node.output.name] = made

    def neuron(self, node: Node) -> None:
        equations, arrays = fixed(node, self.weights)
        count = len(equations.states)
        reads = self.reads(node)
        currents, states = (reads[:-count], reads[-count:]) if count else (reads, [])
        current = currents[0]
        for index, other in enumerate(currents[1:]):
            current = self.op("Add", [current, other], f"{node.name}.current" + (f".{index}" if index else ""))
        called = layer_of(node).neuron
        kind = unique(node, equations, called.name, self.neurons)
        # Local functions are named as classes are: `Lif`, `LifStart`.
        kind = "".join(part.capitalize() for part in kind.split("_"))
        self.functions.setdefault(kind, neuron_function(kind, equations, list(arrays)))
        rank = len(node.outputs[0].shape) + 1
        channels = [
            self.constant(f"{layer_of(node).name}.{key}", value.astype(np.float32))
            for key, value in by_channel(arrays, rank)
        ]
        names = [v.name for v in node.outputs]
        self.op(kind, [current, *states, *channels], node.name, domain=DOMAIN, outputs=names)
        made = self.tape.nodes[-1]
        made.doc_string = str(equations)
        self.env.update(zip(names, made.outputs, strict=True))

    def batch_axis(self, reader: str) -> ir.Value:
        """The length of the batch axis, for the value `reader`."""
        x, axis = self.samples
        return self.op("Shape", [x], f"{reader}.batch", {"start": axis, "end": axis + 1})

    def one(self, node: Node) -> None:
        value = ir.tensor(np.ones(1, dtype=np.float32))
        self.put(node, "ConstantOfShape", [self.batch_axis(node.output.name)], value=value)

    def zeros(self, node: Node) -> None:
        axes = [self.batch_axis(node.output.name), self.integers(*node.output.shape)]
        shape = self.op("Concat", axes, f"{node.name}.shape", {"axis": 0})
        self.put(node, "ConstantOfShape", [shape], value=ir.tensor(np.zeros(1, dtype=np.float32)))

    def frame(self, node: Node) -> None:
        index = self.constant(f"step{node.attrs['step']}", np.array(node.attrs["step"], dtype=np.int64))
        self.put(node, "Gather", [*self.reads(node), index], axis=0)

    def stack(self, node: Node) -> None:
        axis = self.integers(0)
        steps = [self.op("Unsqueeze", [v, axis], f"{node.name}.{t}") for t, v in enumerate(self.reads(node))]
        self.put(node, "Concat", steps, axis=0)


EMIT: Mapping[str, Callable[[_Emitter, Node], None]] = {
    "conv": _Emitter.conv,
    "conv1d": _Emitter.conv,
    "linear": _Emitter.linear,
    "bn": _Emitter.norm,
    "avgpool": _Emitter.pool,
    "maxpool": _Emitter.pool,
    "adaptive_avgpool": _Emitter.adaptive,
    "adaptive_maxpool": _Emitter.adaptive,
    "flatten": _Emitter.flatten,
    "dropout": _Emitter.skip,
    "standard": _Emitter.standard,
    "registered": _Emitter.registered,
    "add": _Emitter.add,
    "mul": _Emitter.product,
    "gate": _Emitter.gate,
    "concat": _Emitter.concat,
    "resize": _Emitter.resize,
    "to_image": _Emitter.to_image,
    "to_signal": _Emitter.to_signal,
    "to_vector": _Emitter.flatten,
    "neuron": _Emitter.neuron,
    "one": _Emitter.one,
    "count": _Emitter.count,
    "present": _Emitter.present,
    "zeros": _Emitter.zeros,
    "frame": _Emitter.frame,
    "stack": _Emitter.stack,
    "fold_norm": _Emitter.fold_norm,
}


def _along(node: Node, size: int | tuple[int, int]) -> list[int]:
    """A size for each axis of places."""
    return list(shapes.pair(size))[: len(node.output.shape) - 1]


def _window(
    node: Node, kernel: int | tuple[int, int], stride: int | tuple[int, int], padding: int | tuple[int, int]
) -> dict[str, list[int]]:
    return {
        "kernel_shape": _along(node, kernel),
        "strides": _along(node, stride),
        "pads": _along(node, padding) * 2,
    }


def output_names(program: Program) -> list[str]:
    """The names of the model's outputs: `O`, then those of `next_names`."""
    first = program.outputs[0] if program.schedule != "step" else free("O", program.values())
    return [first, *next_names(program)]


def next_names(program: Program) -> list[str]:
    """What the states are called that a step leaves: `next.` and the name of the state that it reads."""
    return [free(f"next.{s.input}", program.values()) for s in program.states]
