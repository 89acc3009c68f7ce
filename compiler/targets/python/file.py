"""Target .py: the unrolled network as one file to read, with its weights in a safetensors file beside it.

The file imports torch and safetensors and nothing else. It names a value as the program does
(`layer1_0_lif1_s_t3`), says where each step begins, and drops what no later step reads. It knows the digest of
its weights, so that the two files cannot be mixed with those of another export. Proved before either is written.
"""

from __future__ import annotations

import ast
import hashlib
import keyword
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from bcgraph import dsl
from bcgraph.compiler import pipelines
from bcgraph.compiler.export import drafts, proof, tables
from bcgraph.compiler.export.folding import folded, norm_at
from bcgraph.compiler.export.neurons import by_channel, fixed, unique
from bcgraph.compiler.export.request import ExportReport, Request, only_unrolled, plain
from bcgraph.compiler.ir import Node, Program, free
from bcgraph.compiler.ops.neuron import layer_of
from bcgraph.compiler.targets.python.neuron import neuron_text
from bcgraph.compiler.targets.python.text import FILE, NEAREST, TAKEN
from bcgraph.equations.neuron import Equations
from bcgraph.errors import CompileError
from bcgraph.exported import COMMENT, SPECIFICATION
from bcgraph.normalization import Normalization
from bcgraph.readout import MEANINGS
from bcgraph.weights import serialized


def write(request: Request) -> ExportReport:
    """Write a .py file and its weights. Raises as `export` does."""
    only_unrolled(request)
    draft, found = drafts.write(request, _Draft)
    path, beside = draft.content
    size = len(draft.content[path])
    return ExportReport(path, "unrolled", None, size, found, "the file's code", (beside,))


class _Draft:
    """A .py file and its weights in memory, and the module that they are compared with."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.program = pipelines.program(request.spec, "unrolled", pipelines.FILE)
        tables.check(self.program.nodes, _EMIT, "python")
        self.module = plain(request, "unrolled")
        self.weights = {k: v.detach().numpy() for k, v in self.module.state_dict().items()}
        self.beside = request.path.with_name(f"{request.path.stem}.weights.safetensors")
        self.code = _Writer(self.program, self.weights, request.inside)
        self.text = self.code.text()
        packed = bytes(serialized({k: torch.from_numpy(v) for k, v in self.code.tensors.items()}))
        self.digest = hashlib.sha256(packed).hexdigest()
        source = _file(request, self.text, self.code, self.beside.name, self.digest).encode()
        self.content = {request.path: source, self.beside: packed}

    def prove(self, places: Mapping[Path, Path]) -> proof.Proof:
        """Run the file with its weights; beside it a sibling that gives out its spikes and has the same code."""
        names = list(proof.watched(self.module))
        watching = _Writer(self.program, self.weights, self.request.inside, watch=names)
        sibling = _file(self.request, watching.text(), watching, self.beside.name, self.digest)
        source = places[self.request.path].read_text(encoding="utf-8")
        if _statements(source) != _statements(sibling):
            raise CompileError("E075", "the file that was read back is another than the one that was compared")
        ours, given = self.request.both()
        # Under its temporary name the file does not find its weights: they are handed to it.
        # Its bytes, since the library takes no path that is not UTF-8.
        tensors = load(places[self.beside].read_bytes())
        found, outputs = (self._run(text, tensors, given) for text in (source, sibling))
        named = dict(zip(("O", *names), outputs, strict=True))
        compared = proof.compare(self.module, {"x": ours}, named, self.request.spec.readout)
        proof.same_outputs(found[0], outputs[0], compared.near)
        return compared.proof

    def _run(self, source: str, tensors: Mapping[str, torch.Tensor], given: torch.Tensor) -> list[np.ndarray]:
        space: dict[str, Any] = {"__name__": "exported"}
        exec(compile(source, str(self.request.path), "exec"), space)
        with torch.no_grad():
            results = space["Network"](dict(tensors))(given)
        return [r.numpy() for r in (results if isinstance(results, tuple) else (results,))]

    def graph(self) -> str:
        """The code of `forward`."""
        return self.text


def _statements(source: str) -> str:
    """What a file computes: its code without comments, what is dropped when, and all that is given out but O."""
    tree = ast.parse(source)
    (network,) = (each for each in tree.body if isinstance(each, ast.ClassDef))
    (forward,) = (each for each in network.body if isinstance(each, ast.FunctionDef) and each.name == "forward")
    forward.body = [each for each in forward.body if not isinstance(each, ast.Delete)]
    given = forward.body[-1]
    if isinstance(given, ast.Return) and isinstance(given.value, ast.Tuple):
        given.value = given.value.elts[0]
    return ast.dump(tree)


def _file(request: Request, forward: str, code: _Writer, beside: str, digest: str) -> str:
    spec = request.spec
    shape = spec.input.shape
    lead = f"{spec.steps}, N, " if spec.input.kind == "sequence" else "N, "
    return FILE.format(
        name=spec.name,
        takes=f"[{lead}{', '.join(map(str, shape))}]",
        raw="before normalization, which happens here" if request.inside else "normalized",
        steps=spec.steps,
        outputs=code.classes,
        readout=MEANINGS[spec.readout],
        about="\n".join(f"# {line}" for line in request.described.lines()),
        mark=SPECIFICATION,
        specification="\n".join(f"{COMMENT}{line}".rstrip() for line in dsl.format_spec(spec).splitlines()),
        weights=beside,
        digest=digest,
        classes=request.classes,
        neurons="\n\n\n".join(code.functions.values()),
        nearest=NEAREST if code.resizes else "",
        forward=forward,
    )


class _Writer:
    """Makes the lines of `forward`, one method an operation, and the tensors that they read."""

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, np.ndarray],
        normalization: Normalization | None,
        watch: Sequence[str] = (),
    ) -> None:
        self.program = program
        self.weights = weights
        self.watch = watch
        self.normalization = normalization
        self.lines: list[str] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.names: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.dropped: set[str] = set()
        self.resizes = False
        self.neurons: dict[str, Equations] = {}
        self.functions: dict[str, str] = {}
        self.shapes = {name: value.shape for name, value in program.values().items()}
        self.classes = self.shapes[program.outputs[0]][0]

    def text(self) -> str:
        """The body of `forward`, indented."""
        x = self.name(self.program.inputs[0].name)
        if x != "x":
            self.lines.append(f"{x} = x")
        if self.normalization is not None:
            parts = {k: np.array(getattr(self.normalization, k), np.float32) for k in ("mean", "std")}
            mean, std = (self.tensor(f"normalization.{k}", v.reshape(-1, 1, 1)) for k, v in parts.items())
            self.lines.append(f"{x} = ({x} - {mean}) / {std}")
        step: int | None = -1
        last = self.last_reads()
        for index, node in enumerate(self.program.nodes):
            if node.op == "fold_norm":
                _EMIT[node.op](self, node)
                continue
            if node.step != step and node.op != "frame":
                self.drop(index, last)
                step = node.step
                label = f"step {step}" if step is not None else "all steps" if node.op == "stack" else "once for all"
                self.lines += ["", f"# {label}"]
            _EMIT[node.op](self, node)
        results = ", ".join(self.names[n] for n in (*self.program.outputs, *self.watch))
        self.lines += [f"return {results}"]
        return "\n".join(f"        {line}".rstrip() for line in self.lines)

    def last_reads(self) -> dict[str, int]:
        """For each value, the number of the last node that reads it; none for what is read outside of the steps."""
        found = {v.name: index for index, n in enumerate(self.program.nodes) for v in n.outputs if n.step is not None}
        for index, node in enumerate(self.program.nodes):
            for edge in node.inputs:
                if node.step is None:
                    found.pop(edge.value, None)
                else:
                    found[edge.value] = index
        return {k: v for k, v in found.items() if k not in self.watch}

    def drop(self, index: int, last: Mapping[str, int]) -> None:
        """Free the values that node number `index` and those after it do not read.

        Several values may share a name, as those before and after a dropout: the name lives as long as any of them.
        """
        read = {value: name for value, name in self.names.items() if last.get(value, index) < index}
        alive = {name for value, name in self.names.items() if value not in read}
        gone = [name for name in read.values() if name not in alive and name not in self.dropped]
        if gone:
            self.dropped.update(gone)
            self.lines.append(f"del {', '.join(dict.fromkeys(gone))}")

    def name(self, value: str) -> str:
        """A Python name for a value, the same each time."""
        if value not in self.names:
            text = _identifier(value)
            self.names[value] = free(text, {*self.names.values(), *TAKEN})
        return self.names[value]

    def tensor(self, name: str, value: np.ndarray) -> str:
        """How `forward` reads a tensor of the weights file."""
        if name not in self.sources:
            key = free(_public(_identifier(name)), {*self.tensors, *dir(torch.nn.Module)})
            self.tensors[key] = np.ascontiguousarray(value, dtype=np.float32)
            self.sources[name] = f"self.{key}"
        return self.sources[name]

    def weight(self, name: str) -> str:
        return self.tensor(name, self.weights[name])

    def reads(self, node: Node) -> list[str]:
        return [self.names[e.value] for e in node.inputs]

    def put(self, node: Node, expression: str) -> None:
        self.lines.append(f"{self.name(node.output.name)} = {expression}")

    # --- one method an operation ---

    def conv(self, node: Node) -> None:
        layer = node.attrs["layer"]
        x, *parts = (self.sources.get(e.value) or self.names[e.value] for e in node.inputs)
        if not parts:
            parts = [self.weight(f"{node.module}.weight")]
            parts += [self.weight(f"{node.module}.bias")] if layer.bias else []
        plain_values = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        extra = [f"{k}={getattr(layer, k)}" for k, v in plain_values.items() if getattr(layer, k) != v]
        self.put(node, f"F.conv{len(node.output.shape) - 1}d({', '.join([x, *parts, *extra])})")

    def fold_norm(self, node: Node) -> None:
        for value, array in zip(node.outputs, folded(node, self.weights), strict=True):
            self.tensor(value.name, array)

    def linear(self, node: Node) -> None:
        parts = ["weight", "bias"] if node.attrs["layer"].bias else ["weight"]
        self.put(
            node, f"F.linear({', '.join([*self.reads(node), *(self.weight(f'{node.module}.{p}') for p in parts)])})"
        )

    def norm(self, node: Node) -> None:
        layer = node.attrs["layer"]
        parts = []
        for part in ("running_mean", "running_var", "weight", "bias"):
            name = f"{node.module}.{part}"
            own = norm_at(node, part, self.weights)
            parts.append(self.weight(name) if own is None else self.tensor(f"{name}.t{node.step}", own))
        (x,) = self.reads(node)
        self.put(node, f"F.batch_norm({', '.join([x, *parts])}, eps={layer.norm.eps!r})")

    def pool(self, node: Node) -> None:
        layer = node.attrs["layer"]
        function = f"{node.op[:3]}_pool{len(node.output.shape) - 1}d"
        (x,) = self.reads(node)
        ceil = ", ceil_mode=True" if layer.ceil else ""
        self.put(node, f"F.{function}({x}, {layer.kernel}, stride={layer.stride}, padding={layer.padding}{ceil})")

    def adaptive(self, node: Node) -> None:
        function = f"{node.op.removesuffix('pool')}_pool{len(node.output.shape) - 1}d"
        self.put(node, f"F.{function}({self.reads(node)[0]}, {node.attrs['layer'].size})")

    def flatten(self, node: Node) -> None:
        self.put(node, f"torch.flatten({self.reads(node)[0]}, 1)")

    def skip(self, node: Node) -> None:
        self.names[node.output.name] = self.reads(node)[0]

    def to_image(self, node: Node) -> None:
        axes = "[:, :, None, None]" if len(self.shapes[node.inputs[0].value]) == 1 else "[..., None]"
        self.put(node, f"{self.reads(node)[0]}{axes}")

    def to_signal(self, node: Node) -> None:
        self.put(node, f"{self.reads(node)[0]}[..., 0]")

    def add(self, node: Node) -> None:
        self.put(node, " + ".join(self.reads(node)))

    def product(self, node: Node) -> None:
        channels = node.output.shape[0]
        parts = []
        for name, edge in zip(self.reads(node), node.inputs, strict=True):
            own = self.shapes[edge.value][0]
            wide = name if own in (1, channels) else f"{name}.repeat_interleave({channels // own}, 1)"
            missing = len(node.output.shape) - len(self.shapes[edge.value])
            parts.append(f"{wide}[{', '.join([':', ':', *['None'] * missing])}]" if missing else wide)
        self.put(node, " * ".join(parts))

    def standard(self, node: Node) -> None:
        (x,), given = self.reads(node), self.shapes[node.inputs[0].value]
        text = tables.written(node, "python", given, x, lambda name: self.weight(f"{node.module}.{name}"))
        self.put(node, str(text))

    def gate(self, node: Node) -> None:
        first, *rest = self.reads(node)
        self.put(node, " * ".join([first, *(f"(1 + {each})" for each in rest)]))

    def concat(self, node: Node) -> None:
        self.put(node, f"torch.cat([{', '.join(self.reads(node))}], 1)")

    def resize(self, node: Node) -> None:
        self.resizes = True
        height, width = node.attrs["size"]
        self.put(node, f"nearest({self.reads(node)[0]}, {height}, {width})")

    def registered(self, node: Node) -> None:
        (x,) = self.reads(node)
        self.put(node, str(tables.called(node, "python", x, lambda name: self.weight(f"{node.module}.{name}"))))

    def neuron(self, node: Node) -> None:
        equations, arrays = fixed(node, self.weights)
        function = unique(node, equations, self.function_name(layer_of(node).neuron.name), self.neurons)
        self.functions.setdefault(function, neuron_text(function, equations, list(arrays)))
        reads = self.reads(node)
        count = len(equations.states)
        currents, states = (reads[:-count], reads[-count:]) if count else (reads, [])
        rank = len(node.outputs[0].shape) + 1
        channels = [self.tensor(f"{layer_of(node).name}.{k}", v) for k, v in by_channel(arrays, rank)]
        names = [self.name(v.name) for v in node.outputs]
        self.lines.append(f"{', '.join(names)} = {function}({', '.join([' + '.join(currents), *states, *channels])})")

    def function_name(self, neuron: str) -> str:
        """The name of a neuron's function, with which no value's and nothing of the file's frame begins."""
        values = [_identifier(v.name) for n in self.program.nodes for v in n.outputs]
        taken = {*TAKEN, *keyword.kwlist}
        neuron = _public(neuron)
        while neuron in taken or any(v == neuron or v.startswith(f"{neuron}_") for v in values):
            neuron += "_"
        return neuron

    def zeros(self, node: Node) -> None:
        axis = 1 if self.program.sequence else 0
        x = self.names[self.program.inputs[0].name]
        shape = "".join(f", {n}" for n in node.output.shape)
        self.put(node, f"{x}.new_zeros({x}.shape[{axis}]{shape})")

    def frame(self, node: Node) -> None:
        self.put(node, f"{self.reads(node)[0]}[{node.attrs['step']}]")

    def stack(self, node: Node) -> None:
        self.put(node, f"torch.stack([{', '.join(self.reads(node))}])")


def _identifier(value: str) -> str:
    text = "".join(c if c.isalnum() and c.isascii() else "_" for c in value.replace("@", "_"))
    return f"_{text}" if text[:1].isdigit() or keyword.iskeyword(text) else text


def _public(name: str) -> str:
    """A name that Python leaves as it is within a class."""
    return f"own{name}" if name.startswith("__") else name


_EMIT: Mapping[str, Callable[[_Writer, Node], None]] = {
    "conv": _Writer.conv,
    "conv1d": _Writer.conv,
    "linear": _Writer.linear,
    "bn": _Writer.norm,
    "avgpool": _Writer.pool,
    "maxpool": _Writer.pool,
    "adaptive_avgpool": _Writer.adaptive,
    "adaptive_maxpool": _Writer.adaptive,
    "flatten": _Writer.flatten,
    "dropout": _Writer.skip,
    "standard": _Writer.standard,
    "registered": _Writer.registered,
    "add": _Writer.add,
    "mul": _Writer.product,
    "gate": _Writer.gate,
    "concat": _Writer.concat,
    "resize": _Writer.resize,
    "to_image": _Writer.to_image,
    "to_signal": _Writer.to_signal,
    "to_vector": _Writer.flatten,
    "neuron": _Writer.neuron,
    "zeros": _Writer.zeros,
    "frame": _Writer.frame,
    "stack": _Writer.stack,
    "fold_norm": _Writer.fold_norm,
}
