"""Target torch.fx: a program becomes a `GraphModule`, its forward readable Python.

Each fx node carries in `meta` the `step`, the `port` and the `span` it comes from; nodes that hold spikes have
`meta["spikes"] = (port, first step, number of steps)`. The module keeps no state between calls but the running
statistics of its batch norms.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from bcgraph import schema
from bcgraph.compiler.ir import Node, Program, TemporalGraph
from bcgraph.compiler.targets.fx import backends, loops
from bcgraph.compiler.targets.fx.memory_plan import plan
from bcgraph.compiler.targets.fx.nodes import MEMORY, emit, emit_segments
from bcgraph.compiler.targets.fx.observer import spikes as spikes
from bcgraph.compiler.targets.fx.recompute import Segment, pieces, statistics_aside
from bcgraph.compiler.targets.fx.sums import SUMS, Sums, beside, norms_of, sums_of
from bcgraph.errors import CompileError
from bcgraph.modulenames import refusal, taken
from bcgraph.names import BACKWARD, FORWARD, parse_projection
from bcgraph.nn import modules, registered, tree
from bcgraph.nn.hooks import Container, Layer
from bcgraph.nn.workspace import Memory


@dataclass(frozen=True, slots=True)
class Source:
    """What a module is built from, apart from its layers. `code` is the forward that was generated."""

    program: Program
    inference: bool
    recompute: bool
    kept: frozenset[str]
    code: str = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> Source:
        return self


class PortAsModuleError(CompileError, AttributeError):
    """A port was asked for as a submodule. An AttributeError too, as torch raises for unknown submodules."""


class Module(tree.Tree, fx.GraphModule):
    """A compiled program. One with norms folded away has no training mode, and says so.

    Copies and pickles are built anew from the program, never traced, and take over layers, modes and hooks.
    """

    def train(self, mode: bool = True) -> Self:
        """As in torch. Raises CompileError when the module was compiled for inference and `mode` is true."""
        if mode and self.meta.get("inference"):
            raise _folded_away("compile without `inference` and without the pass `fold_bn` to train")
        return super().train(mode)

    def get_submodule(self, target: str) -> nn.Module:
        """As in torch. A port is no submodule: asking for one raises PortAsModuleError (E060)."""
        try:
            return tree.find(self, target) if target.startswith(f"{FORWARD}.") else super().get_submodule(target)
        except AttributeError:
            if target not in self.meta.get("ports", ()):
                raise
        hint = f'bcgraph.record(model, x, ports=["{target}"]) gives its spikes, membranes and currents'
        raise PortAsModuleError("E060", f"`{target}` is a port, which is no submodule and takes no hooks", hint=hint)

    def __reduce__(self) -> tuple[Any, ...]:
        source = _source(self)
        if source is None:
            return super().__reduce__()
        return _blank, (_class_of(source.program),), _state(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        source: Source = state["attributes"]["meta"]["source"]
        root = tree.Tree()
        root._modules.update(state["modules"])
        _assemble(self, source, root)
        # The modules as they were: with their own modes, and whatever a user has put beside them.
        self._modules.update(state["modules"])
        self.__dict__.update(state["attributes"])
        backends.use(self.meta.get("backend", "eager"), self)

    def __deepcopy__(self, memo: dict[int, Any]) -> fx.GraphModule:
        source = _source(self)
        if source is None:
            return super().__deepcopy__(memo)
        module = _blank(_class_of(source.program))
        memo[id(self)] = module
        module.__setstate__(copy.deepcopy(_state(self), memo))
        return module

    def __copy__(self) -> fx.GraphModule:
        source = _source(self)
        if source is None:
            return super().__copy__()
        module = _blank(_class_of(source.program))
        module.__setstate__(_state(self))
        return module


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


# What belongs to the graph of a module and is built anew for a copy.
_OF_THE_GRAPH = (vars(fx.GraphModule(nn.Module(), fx.Graph())).keys() - vars(nn.Module()).keys() - {"meta"}) | {
    "_modules",
    "_compiled_call_impl",
}


def _source(module: Module) -> Source | None:
    """What `module` is built from; None where somebody has edited its graph since."""
    source: Source | None = module.meta.get("source")
    return source if source is not None and source.code == module.code else None


def _state(module: Module) -> dict[str, Any]:
    """What a copy of `module` takes over: its modules but for those of the graph, and its attributes."""
    made = Segment | Memory | Sums | loops.Loops
    ours = {name: child for name, child in module._modules.items() if not isinstance(child, made)}
    attributes = {name: value for name, value in vars(module).items() if name not in _OF_THE_GRAPH}
    return {"modules": ours, "attributes": attributes}


def _class_of(program: Program) -> type[Module]:
    return StepModule if program.schedule == "step" else Module


def _blank(kind: type[Module]) -> Module:
    """A module of a class of its own, as torch gives each graph, that is not initialized yet."""
    return kind.__new__(kind)


def parameters(graph: TemporalGraph, seed: int = 0) -> nn.Module:
    """The modules that own the parameters of `graph`, freshly initialized (see `bcgraph.nn.modules`)."""
    values = graph.values()
    for node in graph.nodes:
        if node.module is not None:
            _check_name(node)
    # Several equations of a neuron share its parameters.
    owners = {
        node.module: (node.module, node.attrs["layer"], values[node.inputs[0].value].shape)
        for node in graph.nodes
        if node.module is not None
    }
    return modules.build(owners.values(), graph.steps, seed)


def _check_name(node: Node) -> None:
    """Refuse a layer whose place in the module tree is taken by torch or by Python (E036)."""
    name = str(node.module)
    found = parse_projection(name)
    own = name if found is None else found.part
    parts = own.split(".")
    part = taken(own) or next((part for part in parts if part in _TAKEN), None)
    if part is None and found is None and parts[0] == BACKWARD:
        part = BACKWARD
    if part is not None:
        message, hint = refusal(name, part)
        raise CompileError("E036", message, span=node.span, hint=hint)


# What `check` refuses, which does not load torch, and what a torch of another version has besides.
_TAKEN = frozenset(dir(StepModule)) | set(vars(nn.Module())) | {"graph", "meta", "code", MEMORY, SUMS, loops.LOOPS}


def to_fx(
    program: Program,
    root: nn.Module,
    *,
    inference: bool = False,
    recompute: bool = False,
    kept: Collection[str] = (),
) -> Module:
    """The module of `program` with the parameters of `root`, which it shares; in eval mode for `inference`.

    With `recompute` an unrolled program becomes a chain of segments (see `recompute.py`). Inference has a memory plan.
    `kept` names values that an observer reads and keeps beyond the call.
    """
    module = _blank(_class_of(program))
    _assemble(module, Source(program, inference, recompute, frozenset(kept)), root)
    if inference:
        module.eval()
    return module


def _assemble(module: Module, source: Source, root: nn.Module) -> None:
    """Initialize a blank `module` from its source, with the layers of `root`."""
    program = source.program
    memory = plan(program, source.kept) if source.inference else None
    segments: dict[str, Segment] = {}
    sums = sums_of(program, root)
    run = loops.loops_of(program, root)
    if source.recompute:
        before, parts, after = pieces(program)
        for part in parts:
            inner = fx.GraphModule(beside(root, sums), emit(part.program), class_name=part.name.capitalize())
            # For those who look for the norms of a segment.
            for path in sorted(norms_of(part.program)):
                tree.place(inner, path, tree.find(root, path), Container)
            segments[part.name] = Segment(inner)
        graph = emit_segments(program, before, parts, after)
    else:
        graph = emit(program, memory)
    fx.GraphModule.__init__(
        module, root, fx.Graph(), class_name="".join(p.capitalize() for p in program.name.split("_"))
    )
    graphs = [graph, *(segment.inner.graph for segment in segments.values())]
    called = {str(n.target) for one in graphs for n in one.nodes if n.op == "call_module"}
    called |= {tree.in_code(norm) for norm in norms_of(program) | loops.norms_of(program)}
    # All owners in the order of the network: every schedule has the same state dict, and a projection that
    # no step reads keeps its weights though it is not in the graph.
    kept_whole: list[str] = []
    for path, owner in root.named_modules():
        # A registered layer is one module, whatever it is made of.
        if any(path.startswith(f"{whole}.") for whole in kept_whole):
            continue
        if registered.is_registered(owner):
            kept_whole.append(path)
        if path in kept_whole or (path and not list(owner.children())):
            tree.place(module, path, owner, Container)
            if isinstance(owner, Layer):
                owner.note_program(calls=tree.in_code(path) in called)
    if sums is not None:
        module.add_module(SUMS, sums)
    if run is not None:
        module.add_module(loops.LOOPS, run)
    for name, segment in segments.items():
        module.add_submodule(name, segment)
    if memory is not None and memory.sizes:
        module.add_submodule(MEMORY, Memory(memory.sizes, axis=1 if program.inputs[0].steps else 0))
    module.graph = graph
    module.meta.update(recompute=source.recompute, source=replace(source, code=module.code))
    module.meta.update(schedule=program.schedule, steps=program.steps, states=program.states)
    module.meta.update(ports=program.ports, sequence=program.sequence, neurons=_neurons(program))
    if source.inference:
        module.meta["inference"] = True


def _neurons(program: Program) -> dict[int, schema.NeuronLayer]:
    """The layer of each port."""
    found: dict[int, schema.NeuronLayer] = {}
    for node in (*program.nodes, *loops.inside(program)):
        layer = node.attrs.get("neuron", node.attrs.get("layer"))
        if node.port is not None and isinstance(layer, schema.NeuronLayer):
            found[node.port] = layer
    return found


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, batch norms use the statistics of the batch. Restores running statistics and modes on exit.

    Raises CompileError (E072) for a module compiled for inference, which has no norms to switch.
    """
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
