"""Target torch.fx: a program becomes a `GraphModule`, its forward readable Python.

Each fx node carries in `meta` the `step`, the `port` and the `span` it comes from; nodes that hold spikes have
`meta["spikes"] = (port, first step, number of steps)`. The module keeps no state between calls but the running
statistics of its batch norms.
"""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler.ir import Node, Program, TemporalGraph, free
from bcgraph.compiler.targets.recompute import Piece, Segment, pieces, statistics_aside
from bcgraph.errors import CompileError
from bcgraph.nn import functional as BF
from bcgraph.nn import lif as LIF
from bcgraph.nn import modules
from bcgraph.nn import spikes as spikes_as_bits


class Module(fx.GraphModule):
    """A compiled program. One with norms folded away has no training mode, and says so."""

    def train(self, mode: bool = True) -> Self:
        """As in torch. Raises CompileError when the module was compiled for inference and `mode` is true."""
        if mode and self.meta.get("inference"):
            raise _folded_away("compile without `inference` and without the pass `fold_bn` to train")
        return super().train(mode)


def _folded_away(hint: str) -> CompileError:
    message = "this module was compiled for inference: its batch norms are part of its convolutions"
    return CompileError("E072", message, hint=hint)


class StepModule(Module):
    """A program of one step, `(x_t, *states) -> (O_t, *states)`, with the states it starts from."""

    def initial_states(self, x_t: Tensor) -> tuple[Tensor, ...]:
        """Zero states for the batch of `x_t`, `[N, C, H, W]`, on its device and with the weights' dtype."""
        like = next(self.parameters(), x_t)
        shapes = [s.shape for s in self.meta["states"]]
        return tuple(torch.zeros((x_t.shape[0], *s), dtype=like.dtype, device=x_t.device) for s in shapes)


def parameters(graph: TemporalGraph, seed: int = 0) -> nn.Module:
    """The modules that own the parameters of `graph`, freshly initialized (see `bcgraph.nn.modules`)."""
    values = graph.values()
    for node in graph.nodes:
        if node.module is not None:
            _check_name(node)
    owners = [
        (node.module, node.attrs["layer"], values[node.inputs[0].value].shape)
        for node in graph.nodes
        if node.module is not None
    ]
    return modules.build(owners, graph.steps, seed)


def _check_name(node: Node) -> None:
    """Refuse a layer whose place in the module tree is taken by torch or by Python (E036)."""
    name = str(node.module)
    if _PROJECTION.match(name):
        return
    for place, part in enumerate(name.split(".")):
        if part in _TAKEN or keyword.iskeyword(part) or (part == "backward" and place == 0):
            raise CompileError(
                "E036",
                f"`{name}` cannot be the name of a layer: `{part}` is taken in a torch module",
                span=node.span,
                hint=f"for example `{part}_1`",
            )


_PROJECTION = re.compile(r"backward\.\d+_\d+\.(conv|bn)$")
_TAKEN = frozenset(dir(StepModule)) | set(vars(nn.Module())) | {"graph", "meta", "code"}


def to_fx(program: Program, root: nn.Module, *, inference: bool = False, recompute: bool = False) -> Module:
    """The module of `program` with the parameters of `root`, which it shares; in eval mode for `inference`.

    With `recompute` an unrolled program becomes a chain of segments (see `recompute.py`).
    """
    emitter = _Emitter(program)
    segments: dict[str, Segment] = {}
    if recompute:
        before, parts, behind = pieces(program)
        for part in parts:
            inner = fx.GraphModule(root, _Emitter(part.program).emit(), class_name=part.name.capitalize())
            segments[part.name] = Segment(inner)
        graph = emitter.emit_segments(before, parts, behind)
    else:
        graph = emitter.emit()
    kind = StepModule if program.schedule == "step" else Module
    module = kind(root, fx.Graph(), class_name="".join(p.capitalize() for p in program.name.split("_")))
    # All owners in the order of the network: every schedule has the same state dict, and a projection that
    # no step reads keeps its weights though it is not in the graph.
    for path, owner in root.named_modules():
        if path and not list(owner.children()):
            module.add_submodule(path, owner)
    for name, segment in segments.items():
        module.add_submodule(name, segment)
    module.graph = graph
    module.meta.update(recompute=recompute)
    module.meta.update(schedule=program.schedule, steps=program.steps, states=program.states)
    module.meta.update(ports=program.ports, sequence=program.sequence)
    if inference:
        module.eval()
        module.meta["inference"] = True
    return module


_FLATTEN: Callable[..., Tensor] = torch.flatten


class _Emitter:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = fx.Graph()
        self.env: dict[str, fx.Node] = {}
        self.values = program.values()
        self.first = program.inputs[0].name
        self.split: fx.Node | None = None

    def emit(self) -> fx.Graph:
        self.placeholders()
        for node in self.program.nodes:
            _EMIT[node.op](self, node)
        return self.end()

    def emit_segments(self, before: Iterable[Node], parts: Iterable[Piece], behind: Iterable[Node]) -> fx.Graph:
        self.placeholders()
        for node in before:
            _EMIT[node.op](self, node)
        for part in parts:
            args = tuple(self.env[v.name] for v in part.program.inputs)
            results = self.graph.create_node("call_module", part.name, args, name=part.name)
            for index, name in enumerate(part.program.outputs):
                read = (results, index)
                self.env[name] = self.graph.create_node("call_function", operator.getitem, read, name=_identifier(name))
        for node in behind:
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
        several = self.program.schedule in ("step", "segment")
        self.graph.output(results if several else results[0])
        self.graph.lint()
        return self.graph

    def read(self, node: Node) -> list[fx.Node]:
        return [self.env[e.value] for e in node.inputs]

    def add(self, node: Node, op: str, target: Any, args: tuple[Any, ...], name: str | None = None) -> fx.Node:
        made = self.graph.create_node(op, target, args, name=_identifier(name or node.name))
        made.meta.update(step=node.step, port=node.port, span=node.span, bcgraph=node.name)
        return made

    def call(self, node: Node, target: Callable[..., Any], *args: Any) -> None:
        name = node.outputs[0].name
        self.env[name] = self.add(node, "call_function", target, args, name)

    def module(self, node: Node) -> None:
        name = node.output.name
        self.env[name] = self.add(node, "call_module", node.module, tuple(self.read(node)), name)

    def norm(self, node: Node) -> None:
        if node.attrs["layer"].norm.statistics == "per_step":
            if node.step is None:
                raise CompileError(
                    "E072",
                    f"`{node.name}` has statistics for each step, which this schedule cannot tell apart",
                    span=node.span,
                    hint="use the schedule `unrolled`, or statistics=shared",
                )
            made = self.add(node, "call_module", node.module, (*self.read(node), node.step))
        else:
            made = self.add(node, "call_module", node.module, tuple(self.read(node)))
            made.kwargs = {k: node.attrs[k] for k in ("steps", "repeats", "updates") if node.attrs.get(k, 1) != 1}
        self.env[node.output.name] = made

    def conv(self, node: Node) -> None:
        if len(node.inputs) < 3:
            self.module(node)
            return
        layer = node.attrs["layer"]
        x, weight, bias = self.read(node)
        args = (x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        self.call(node, nn.functional.conv2d, *args)

    def pack(self, node: Node) -> None:
        self.call(node, spikes_as_bits.pack, *self.read(node))

    def fold_norm(self, node: Node) -> None:
        a = node.attrs
        parts = [f"{a['conv']}.weight", f"{a['conv']}.bias" if a["bias"] else None]
        parts += [f"{a['norm']}.{p}" for p in ("weight", "bias", "running_mean", "running_var")]
        reads = [p and self.add(node, "get_attr", p, (), p) for p in parts]
        both = self.add(node, "call_function", BF.fold_norm, (*reads, a["eps"]))
        for index, value in enumerate(node.outputs):
            self.env[value.name] = self.add(node, "call_function", operator.getitem, (both, index), value.name)

    def pool(self, node: Node) -> None:
        layer = node.attrs["layer"]
        name = {"avgpool": "avg_pool2d", "maxpool": "max_pool2d"}[node.op]
        self.call(node, getattr(nn.functional, name), *self.read(node), layer.kernel, layer.stride, layer.padding)

    def adaptive(self, node: Node) -> None:
        name = {"adaptive_avgpool": "adaptive_avg_pool2d", "adaptive_maxpool": "adaptive_max_pool2d"}[node.op]
        self.call(node, getattr(nn.functional, name), *self.read(node), node.attrs["layer"].size)

    def flatten(self, node: Node) -> None:
        self.call(node, _FLATTEN, *self.read(node), 1)

    def to_image(self, node: Node) -> None:
        (x,) = self.read(node)
        column = self.add(node, "call_function", torch.unsqueeze, (x, -1), node.name + ".column")
        self.call(node, torch.unsqueeze, column, -1)

    def sum(self, node: Node) -> None:
        first, *rest = self.read(node)
        for index, other in enumerate(rest):
            name = node.name if index == len(rest) - 1 else f"{node.name}.{index}"
            first = self.add(node, "call_function", operator.add, (first, other), name)
        self.env[node.output.name] = first

    def concat(self, node: Node) -> None:
        self.call(node, torch.cat, self.read(node), 1)

    def resize(self, node: Node) -> None:
        self.call(node, BF.resize, *self.read(node), *node.attrs["size"])

    def charge(self, node: Node) -> None:
        self.call(node, LIF.charge, *self.read(node), node.attrs["tau"])

    def fire(self, node: Node) -> None:
        self.call(node, LIF.fire, *self.read(node), node.attrs["threshold"], node.attrs["surrogate"].width)
        self.mark(node)

    def reset(self, node: Node) -> None:
        self.call(node, LIF.reset, *self.read(node), *(node.attrs[k] for k in ("threshold", "mode", "detach")))

    def lif(self, node: Node) -> None:
        a = node.attrs
        currents = self.read(node)
        rest = (a["tau"], a["threshold"], a["surrogate"].width, a["mode"], a["detach"])
        if "steps" in a:
            repeated = self.values[node.inputs[0].value].steps == 0
            self.call(node, LIF.lif_steps, currents, a["steps"], repeated, *rest)
            self.mark(node)
            return
        membrane = None if a.get("start") else currents.pop()
        if len(node.outputs) == 1:
            self.call(node, LIF.lif_last, currents, membrane, *rest)
        else:
            both = self.add(node, "call_function", LIF.lif, (currents, membrane, *rest))
            for index, value in enumerate(node.outputs):
                self.env[value.name] = self.add(node, "call_function", operator.getitem, (both, index), value.name)
        self.mark(node)

    def mark(self, node: Node) -> None:
        spikes = node.outputs[0]
        self.env[spikes.name].meta["spikes"] = (node.port, node.step or 0, max(1, spikes.steps))

    def steps(self, node: Node) -> None:
        """The operations on folded time: their operands, then their attributes in the order of the function."""
        function, names = _FOLDING[node.op]
        self.call(node, function, *self.read(node), *(node.attrs[k] for k in names))

    def one(self, node: Node) -> None:
        self.call(node, BF.ones, self.batch(node))

    def zeros(self, node: Node) -> None:
        self.call(node, BF.zeros, self.batch(node), *node.output.shape)

    def batch(self, node: Node) -> fx.Node:
        """What has the samples as its first axis: the image, or the first frame of a sequence."""
        if not self.program.inputs[0].steps:
            return self.env[self.first]
        return self.add(node, "call_function", operator.getitem, (self.split_frames(), 0), f"{node.name}.batch")

    def split_frames(self) -> fx.Node:
        if self.split is None:
            x = self.env[self.first]
            self.split = self.graph.create_node("call_function", BF.frames, (x, self.program.steps), name="frames")
        return self.split

    def frame(self, node: Node) -> None:
        self.call(node, operator.getitem, self.split_frames(), node.attrs["step"])

    def stack(self, node: Node) -> None:
        self.call(node, torch.stack, self.read(node))


_EMIT: Mapping[str, Callable[[_Emitter, Node], None]] = {
    "conv": _Emitter.conv,
    "linear": _Emitter.module,
    "bn": _Emitter.norm,
    "avgpool": _Emitter.pool,
    "maxpool": _Emitter.pool,
    "adaptive_avgpool": _Emitter.adaptive,
    "adaptive_maxpool": _Emitter.adaptive,
    "flatten": _Emitter.flatten,
    "dropout": _Emitter.module,
    "add": _Emitter.sum,
    "concat": _Emitter.concat,
    "resize": _Emitter.resize,
    "to_image": _Emitter.to_image,
    "to_vector": _Emitter.flatten,
    "charge": _Emitter.charge,
    "fire": _Emitter.fire,
    "reset": _Emitter.reset,
    "lif": _Emitter.lif,
    "one": _Emitter.one,
    "zeros": _Emitter.zeros,
    "frame": _Emitter.frame,
    "stack": _Emitter.stack,
    "fold_norm": _Emitter.fold_norm,
    "pack": _Emitter.pack,
    "fold_frames": _Emitter.steps,
    "fold": _Emitter.steps,
    "repeat": _Emitter.steps,
    "shift": _Emitter.steps,
    "at": _Emitter.steps,
    "unfold": _Emitter.steps,
}

_FOLDING: Mapping[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "fold_frames": (BF.fold_frames, ("steps",)),
    "fold": (BF.fold, ()),
    "repeat": (BF.repeat, ("steps",)),
    "shift": (BF.shift, ("delay", "steps")),
    "at": (BF.at, ("step", "steps")),
    "unfold": (BF.unfold, ("steps",)),
}


def _identifier(name: str) -> str:
    """A Python name for a value: `layer1.0.lif1.s@t3` as `layer1_0_lif1_s_t3`."""
    text = name.replace("@-", "_ago").replace("@", "_")
    text = "".join(c if c.isalnum() else "_" for c in text)
    return f"n{text}" if text[:1].isdigit() else free(text, ("self",))


class _SpikeReader(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[tuple[int, int], Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if "spikes" in n.meta:
            port, first, count = n.meta["spikes"]
            parts = [result] if count == 1 else result.view(count, -1, *result.shape[1:]).unbind(0)
            self.found.update({(port, first + i): part for i, part in enumerate(parts)})
        return result


def spikes(model: fx.GraphModule, x: Tensor) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """Run `model` on `x` and return O, `[T, N, classes]`, and the spikes `[N, ...]` of each (port, step).

    Differentiable as the module itself. Raises CompileError for a module of the step schedule.
    """
    if model.meta.get("recompute"):
        raise CompileError("E072", "a recomputing module keeps no spikes to read", hint="compile without `recompute`")
    if model.meta.get("schedule") == "step":
        raise CompileError("E072", "a program of one step holds the spikes of one step only", hint="use `unrolled`")
    reader = _SpikeReader(model)
    output = reader.run(x)
    return output, dict(sorted(reader.found.items()))


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Within this, batch norms use the statistics of the batch; running statistics and modes are as before
    behind it. Raises CompileError for a module compiled for inference, which has no norms to switch."""
    if getattr(model, "meta", {}).get("inference"):
        raise _folded_away("compile without `inference` and without the pass `fold_bn` for batch statistics")
    norms = [m for m in model.modules() if isinstance(m, modules.BatchNorm | modules.BatchNormPerStep)]
    modes = [m.training for m in norms]
    try:
        for module in norms:
            module.train()
        with statistics_aside(model):
            yield
    finally:
        for module, mode in zip(norms, modes, strict=True):
            module.train(mode)
