"""How each operation of a program becomes nodes of a torch.fx graph: one method an operation, found in one table.

The methods of `_Emitter` say which calls an operation is made of. What becomes of a call is another matter: `_Writer`
writes it down as a node of a graph, and `_Caller` makes it.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler.ir import Node, Program, free
from bcgraph.compiler.ops import Trait, has
from bcgraph.compiler.ops.layers import by_step, told_apart
from bcgraph.compiler.ops.neuron import equations_of
from bcgraph.compiler.targets.fx import loops, sums
from bcgraph.compiler.targets.fx.memory_plan import MemoryPlan
from bcgraph.compiler.targets.fx.recompute import Piece
from bcgraph.equations.neuron import SPIKES, Equations
from bcgraph.errors import CompileError
from bcgraph.nn import functional as BF
from bcgraph.nn import layers, tree
from bcgraph.nn.conv import folded as FC
from bcgraph.nn.lanes import select_lanes
from bcgraph.nn.neuron import neuron as neurons
from bcgraph.nn.neuron import packed_spikes as spikes_as_bits
from bcgraph.nn.workspace import held_until

MEMORY = "_memory"
"""The name of the submodule with the slots of a memory plan."""

_FLATTEN: Callable[..., Tensor] = torch.flatten


def emit(program: Program, plan: MemoryPlan | None = None) -> fx.Graph:
    """The fx graph of `program`. With a memory plan, neurons write into its slots."""
    return _Writer(program, plan).emit()


def emit_segments(program: Program, before: Iterable[Node], parts: Iterable[Piece], after: Iterable[Node]) -> fx.Graph:
    """The fx graph that runs the nodes `before`, calls a submodule for each of `parts`, and runs those `after`."""
    return _Writer(program).emit_segments(before, parts, after)


def call(
    program: Program, root: nn.Module, inputs: Sequence[Tensor], done: Mapping[int, Sequence[str]]
) -> tuple[Tensor, ...]:
    """Make the calls of `program`, with layers and parameters at their places in `root`; gives its outputs.

    After each node, by its place, go the values that are `done`.
    """
    caller = _Caller(program, root, inputs)
    for place, node in enumerate(program.nodes):
        _EMIT[node.op](caller, node)
        for name in done.get(place, ()):
            del caller.env[name]
    return tuple(caller.env[name] for name in program.outputs)


class _Emitter(ABC):
    """Goes through the operations of a program. `env` holds what stands for each value, `bits` what for its bits."""

    def __init__(self, program: Program, plan: MemoryPlan | None = None) -> None:
        self.program = program
        self.plan = plan
        self.workspace: Any = None
        self.readers = {e.value: node for node in program.nodes for e in node.inputs}
        self.env: dict[str, Any] = {}
        self.bits: dict[str, Any] = {}
        self.values = program.values()
        self.packed = {node.inputs[0].value for node in program.nodes if node.op == "pack"}
        self.nearest = _read_where_they_stand(program)
        self.first = program.inputs[0].name
        self.split: Any = None

    @abstractmethod
    def add(
        self,
        node: Node | None,
        op: str,
        target: Any,
        args: tuple[Any, ...],
        name: str | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """A call of a function or a module, or a parameter, as torch.fx names them; called `name`, or as `node`."""

    @abstractmethod
    def sends(self, value: str, port: int | None, step: int, count: int) -> None:
        """The value is what a port sends in `count` steps from `step` on."""

    def read(self, node: Node) -> list[Any]:
        return [self.env[e.value] for e in node.inputs]

    def call(self, node: Node, target: Callable[..., Any], *args: Any) -> None:
        name = node.outputs[0].name
        self.env[name] = self.add(node, "call_function", target, args, name)

    def module(self, node: Node) -> None:
        name = node.output.name
        self.env[name] = self.add(node, "call_module", tree.in_code(str(node.module)), tuple(self.read(node)), name)

    def norm(self, node: Node) -> None:
        if node.attrs.get("counted"):
            x, *exists, count = self.read(node)
            made = self.add(node, "call_module", tree.in_code(str(node.module)), (x, count, *exists))
        elif by_step(node):
            if node.step is None:
                raise CompileError(
                    "E072",
                    f"`{node.name}` {told_apart(node)}, which this schedule cannot tell apart",
                    span=node.span,
                    hint="use the schedule `unrolled`, or `bn()` with statistics=shared",
                )
            made = self.add(node, "call_module", tree.in_code(str(node.module)), (*self.read(node), node.step))
        else:
            named = {k: node.attrs[k] for k in ("steps", "repeats", "updates") if node.attrs.get(k, 1) != 1}
            made = self.add(node, "call_module", tree.in_code(str(node.module)), tuple(self.read(node)), kwargs=named)
        self.env[node.output.name] = made

    def conv(self, node: Node) -> None:
        if len(node.inputs) < 3:
            self.module(node)
            return
        self.call(node, FC.conv, *self.read(node), _settings(node))

    def pointwise(self, node: Node) -> None:
        reads = self.read(node)
        if len(reads) == 1:
            names = map(tree.in_code, loops.parameters(node))
            reads += [self.add(node, "get_attr", name, (), name) for name in names]
        self.call(node, BF.pointwise, *reads)

    def pack(self, node: Node) -> None:
        bits = self.bits.get(node.inputs[0].value)
        if bits is None:
            self.call(node, spikes_as_bits.pack, *self.read(node))
        else:
            self.env[node.output.name] = bits

    def fold_norm(self, node: Node) -> None:
        a = node.attrs
        parts = [f"{a['conv']}.weight", f"{a['conv']}.bias" if a["bias"] else None]
        parts += [f"{a['norm']}.{p}" for p in ("weight", "bias", "running_mean", "running_var")]
        reads = [p and self.add(node, "get_attr", tree.in_code(p), (), p) for p in parts]
        conv = self.readers[node.outputs[0].name]
        # What multiplies vectors reads its weight as it is, and takes no settings.
        packing: tuple[Any, ...] = ()
        if conv.op in ("conv", "conv_neuron"):
            workspace = (self.workspace, len(self.env)) if self.workspace is not None else ()
            packing = (_settings(conv), self.values[conv.inputs[0].value].shape, *workspace)
        fold = FC.fold_norm_int16 if a.get("bits") and packing else FC.fold_norm
        both = self.add(node, "call_function", fold, (*reads, a["eps"], *packing))
        for index, value in enumerate(node.outputs):
            self.env[value.name] = self.add(node, "call_function", operator.getitem, (both, index), value.name)

    def pool(self, node: Node) -> None:
        layer = node.attrs["layer"]
        name = f"{node.op[:3]}_pool{len(node.output.shape) - 1}d"
        # torch's maximum takes a dilation before `ceil`.
        more = (1, True) if layer.ceil else ()
        window = (layer.kernel, layer.stride, layer.padding)
        self.call(node, getattr(nn.functional, name), *self.read(node), *window, *more)

    def adaptive(self, node: Node) -> None:
        name = f"{node.op.removesuffix('pool')}_pool{len(node.output.shape) - 1}d"
        self.call(node, getattr(nn.functional, name), *self.read(node), node.attrs["layer"].size)

    def flatten(self, node: Node) -> None:
        self.call(node, _FLATTEN, *self.read(node), 1)

    def to_image(self, node: Node) -> None:
        (x,) = self.read(node)
        if len(self.values[node.inputs[0].value].shape) == 1:
            x = self.add(node, "call_function", torch.unsqueeze, (x, -1), node.name + ".column")
        self.call(node, torch.unsqueeze, x, -1)

    def to_signal(self, node: Node) -> None:
        self.call(node, torch.squeeze, *self.read(node), -1)

    def sum(self, node: Node) -> None:
        first, *rest = self.read(node)
        for index, other in enumerate(rest):
            name = node.name if index == len(rest) - 1 else f"{node.name}.{index}"
            first = self.add(node, "call_function", operator.add, (first, other), name)
        self.env[node.output.name] = first

    def product(self, node: Node) -> None:
        self.call(node, layers.multiply, *self.read(node))

    def gate(self, node: Node) -> None:
        self.call(node, BF.gate, *self.read(node))

    def concat(self, node: Node) -> None:
        self.call(node, torch.cat, self.read(node), 1)

    def resize(self, node: Node) -> None:
        if node.output.name in self.nearest:
            (self.env[node.output.name],) = self.read(node)
        else:
            self.call(node, BF.resize, *self.read(node), *node.attrs["size"])

    def equation(self, node: Node) -> None:
        a = node.attrs
        made = neurons.equation(a["expression"], a["reads"], a["layer"].neuron.equations, a["gives"])
        self.call(node, made, self.read(node), self.learned(node, a["layer"].neuron.equations))
        if has(node, Trait.FIRES):
            self.mark(node)

    def learned(self, node: Node, equations: Equations) -> list[Any]:
        """The trained parameters of a neuron, from the module of its port."""
        names = [f"{node.module}.{each.name}" for each in equations.learned] if node.module is not None else []
        return [self.add(node, "get_attr", name, (), name) for name in names]

    def neuron(self, node: Node) -> None:
        reads = self.read(node)
        equations = equations_of(node)
        layer = node.attrs.get("neuron", node.attrs["layer"])
        label = layer.neuron.name
        learned = self.learned(node, equations)
        conv: tuple[Any, ...] = ()
        if node.op == "conv_neuron":
            conv, reads = (*reads[:3], _settings(node)), reads[3:]
        if "steps" in node.attrs:
            first = node.inputs[3] if conv and len(node.inputs) > 3 else node.inputs[0]
            repeated = self.values[first.value].steps == 0
            call: Callable[..., Any] = (FC.ConvNeuronSteps if conv else neurons.NeuronSteps)(equations, label)
            self.call(node, call, *conv, reads, learned, node.attrs["steps"], repeated, *self.slots(node))
            self.mark(node)
            return
        count = len(equations.states)
        states, currents = (reads[-count:], reads[:-count]) if count else ([], reads)
        packs = not conv and node.outputs[0].name in self.packed and equations.gives[0] == SPIKES
        call = FC.ConvNeuron(equations, label) if conv else neurons.Neuron(equations, label, packs)
        made = self.add(node, "call_function", call, (*conv, currents, states, learned, *self.slots(node)))
        for index, value in enumerate(node.outputs):
            self.env[value.name] = self.add(node, "call_function", operator.getitem, (made, index), value.name)
        if packs:
            name, place = node.outputs[0].name, (made, len(node.outputs))
            self.bits[name] = self.add(node, "call_function", operator.getitem, place, f"{name}.bits")
        self.mark(node)

    def slots(self, node: Node) -> tuple[Any, ...]:
        """The workspace of the call, and the slots in it of what the neuron gives."""
        if self.plan is None or self.workspace is None:
            return ()
        return self.workspace, tuple(self.plan.slots.get(v.name) for v in node.outputs)

    def mark(self, node: Node) -> None:
        if node.op != "equation" and equations_of(node).gives[0] != SPIKES:
            return
        spikes = node.outputs[0]
        self.sends(spikes.name, node.port, node.step or 0, max(1, spikes.steps))

    def steps(self, node: Node) -> None:
        """The operations on folded time: their operands, then their attributes in the order of the function."""
        function, names = _FOLDING[node.op]
        self.call(node, function, *self.read(node), *(node.attrs[k] for k in names), *self.axes(node.op))

    def axes(self, op: str) -> tuple[int, ...]:
        """The number of axes of a frame, where a sequence is not one of images."""
        axes = len(self.values[self.first].shape)
        return (axes,) if op == "fold_frames" and axes != 3 else ()

    def one(self, node: Node) -> None:
        self.call(node, BF.ones, self.batch(node))

    def count(self, node: Node) -> None:
        self.call(node, BF.count, *self.read(node), node.attrs["steps"])

    def present(self, node: Node) -> None:
        self.call(node, BF.present, *self.read(node))

    def zeros(self, node: Node) -> None:
        self.call(node, BF.zeros, self.batch(node), *node.output.shape)

    def batch(self, node: Node) -> Any:
        """What has the samples as its first axis: the image, or the first frame of a sequence."""
        if not self.program.inputs[0].steps:
            return self.env[self.first]
        return self.add(node, "call_function", operator.getitem, (self.split_frames(), 0), f"{node.name}.batch")

    def split_frames(self) -> Any:
        if self.split is None:
            x = self.env[self.first]
            arguments: tuple[Any, ...] = (x, self.program.steps, *self.axes("fold_frames"))
            self.split = self.add(None, "call_function", BF.frames, arguments, "frames")
        return self.split

    def frame(self, node: Node) -> None:
        self.call(node, operator.getitem, self.split_frames(), node.attrs["step"])

    def stack(self, node: Node) -> None:
        self.call(node, torch.stack, self.read(node))

    def lanes(self, node: Node) -> None:
        self.call(node, select_lanes, self.read(node), node.attrs["held"], node.attrs["picks"])


class _Writer(_Emitter):
    """Writes a torch.fx graph, whose nodes stand for the values."""

    def __init__(self, program: Program, plan: MemoryPlan | None = None) -> None:
        super().__init__(program, plan)
        self.graph = fx.Graph()

    def emit(self) -> fx.Graph:
        self.placeholders()
        if self.plan is not None and self.plan.sizes:
            self.workspace = self.graph.create_node("call_module", MEMORY, (self.env[self.first],), name="workspace")
        for node in self.program.nodes:
            _EMIT[node.op](self, node)
        return self.end()

    def emit_segments(self, before: Iterable[Node], parts: Iterable[Piece], after: Iterable[Node]) -> fx.Graph:
        self.placeholders()
        for node in before:
            _EMIT[node.op](self, node)
        for part in parts:
            args = tuple(self.env[v.name] for v in part.program.inputs)
            results = self.graph.create_node("call_module", part.name, args, name=part.name)
            for index, name in enumerate(part.program.outputs):
                read = (results, index)
                self.env[name] = self.graph.create_node("call_function", operator.getitem, read, name=_identifier(name))
        for node in after:
            _EMIT[node.op](self, node)
        return self.end()

    def placeholders(self) -> None:
        arguments: set[str] = set()
        for value in self.program.inputs:
            name = free(_identifier(value.name), arguments)
            arguments.add(name)
            self.env[value.name] = self.graph.placeholder(name)

    def end(self) -> fx.Graph:
        results = tuple(self.env[name] for name in self.program.outputs)
        if self.workspace is not None:
            # The code drops a value after its last reader, and what is dropped another call may take.
            first = self.graph.create_node("call_function", held_until, (results[0], self.workspace), name="result")
            results = (first, *results[1:])
        several = self.program.schedule in ("step", "segment", "lanes")
        self.graph.output(results if several else results[0])
        self.graph.lint()
        return self.graph

    def add(
        self,
        node: Node | None,
        op: str,
        target: Any,
        args: tuple[Any, ...],
        name: str | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> fx.Node:
        label = name or ("" if node is None else node.name)
        made = self.graph.create_node(op, target, args, kwargs, name=_identifier(label))
        if node is not None:
            made.meta.update(step=node.step, port=node.port, span=node.span, bcgraph=node.name)
        return made

    def sends(self, value: str, port: int | None, step: int, count: int) -> None:
        self.env[value].meta.update(spikes=(port, step, count), port=port)


class _Caller(_Emitter):
    """Makes the calls; values are tensors."""

    def __init__(self, program: Program, root: nn.Module, inputs: Sequence[Tensor]) -> None:
        super().__init__(program)
        self.root = root
        self.found: dict[str, Any] = {}
        self.env.update((value.name, x) for value, x in zip(program.inputs, inputs, strict=True))

    def add(
        self,
        node: Node | None,
        op: str,
        target: Any,
        args: tuple[Any, ...],
        name: str | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if op == "call_function":
            return target(*args, **(kwargs or {}))
        if target not in self.found:
            self.found[target] = reduce(getattr, target.split("."), self.root)
        return self.found[target](*args, **(kwargs or {})) if op == "call_module" else self.found[target]

    def sends(self, value: str, port: int | None, step: int, count: int) -> None:
        pass


_MAKES = frozenset(("conv", "bn", "add"))
"""Operations whose result is memory of its own, which nothing writes into later."""


def _read_where_they_stand(program: Program) -> set[str]:
    """Enlarged currents that neurons of one step alone read: these read the smaller map themselves.

    Not a neuron's first current, which has the size that the others are read at.
    """
    values, producers = program.values(), {v.name: node for node in program.nodes for v in node.outputs}
    found: set[str] = set()
    for node in program.nodes:
        if node.op == "resize" and producers.get(node.inputs[0].value, node).op in _MAKES:
            given, wanted = values[node.inputs[0].value].shape[-2:], node.attrs["size"]
            if not (wanted[0] % given[0] or wanted[1] % given[1]):
                found.add(node.output.name)
    for node in program.nodes:
        first = {"neuron": 0, "conv_neuron": 2}.get(node.op)
        for place, edge in enumerate(node.inputs):
            if edge.value in found and (first is None or place <= first or "steps" in node.attrs):
                found.discard(edge.value)
    return found.difference(program.outputs)


_EMIT: Mapping[str, Callable[[_Emitter, Node], None]] = {
    "conv": _Emitter.conv,
    "conv1d": _Emitter.module,
    "pointwise": _Emitter.pointwise,
    "linear": _Emitter.module,
    "bn": _Emitter.norm,
    "avgpool": _Emitter.pool,
    "maxpool": _Emitter.pool,
    "adaptive_avgpool": _Emitter.adaptive,
    "adaptive_maxpool": _Emitter.adaptive,
    "flatten": _Emitter.flatten,
    "dropout": _Emitter.module,
    "standard": _Emitter.module,
    "registered": _Emitter.module,
    "add": _Emitter.sum,
    "mul": _Emitter.product,
    "gate": _Emitter.gate,
    "concat": _Emitter.concat,
    "resize": _Emitter.resize,
    "to_image": _Emitter.to_image,
    "to_signal": _Emitter.to_signal,
    "to_vector": _Emitter.flatten,
    "equation": _Emitter.equation,
    "neuron": _Emitter.neuron,
    "conv_neuron": _Emitter.neuron,
    "one": _Emitter.one,
    "count": _Emitter.count,
    "present": _Emitter.present,
    "zeros": _Emitter.zeros,
    "frame": _Emitter.frame,
    "stack": _Emitter.stack,
    "lanes": _Emitter.lanes,
    "fold_norm": _Emitter.fold_norm,
    "pack": _Emitter.pack,
    "fold_frames": _Emitter.steps,
    "fold": _Emitter.steps,
    "repeat": _Emitter.steps,
    "shift": _Emitter.steps,
    "at": _Emitter.steps,
    "unfold": _Emitter.steps,
    **sums.EMIT,
    **loops.EMIT,
}

_FOLDING: Mapping[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "fold_frames": (BF.fold_frames, ("steps",)),
    "fold": (BF.fold, ()),
    "repeat": (BF.repeat, ("steps",)),
    "shift": (BF.shift, ("delay", "steps")),
    "at": (BF.at, ("step", "steps")),
    "unfold": (BF.unfold, ("steps",)),
}


def _settings(node: Node) -> FC.Settings:
    layer = node.attrs["layer"]
    return layer.stride, layer.padding, layer.dilation, layer.groups


def _identifier(name: str) -> str:
    """A Python name for a value: `layer1.0.lif1.s@t3` as `layer1_0_lif1_s_t3`."""
    text = name.replace("@-", "_ago").replace("@", "_")
    text = "".join(c if c.isalnum() else "_" for c in text)
    return f"n{text}" if text[:1].isdigit() else free(text, ("self",))
