"""Target .pt2: the unrolled module by torch.export, of torch's own operations alone, with the batch axis free.

`torch.export.load` needs torch and nothing else. The proof loads the file from the disk and runs it. Beside it runs a
second export of the same module, one that also gives out its spikes; but for these the two graphs have to be one.
"""

from __future__ import annotations

import io
import operator
from collections.abc import Mapping
from pathlib import Path
from threading import RLock

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import TensorArgument

from bcgraph import dsl, plugins
from bcgraph.compiler import pipelines
from bcgraph.compiler.driver import compile
from bcgraph.compiler.export import drafts, proof
from bcgraph.compiler.export.request import ExportReport, Request, only_unrolled, plain
from bcgraph.errors import CompileError
from bcgraph.machine import refuses
from bcgraph.nn import tree
from bcgraph.normalization import Normalization
from bcgraph.schema import Registered, walk

# Torch traces one module at a time: what it traces with is one stack for all threads.
_TRACING = RLock()


def write(request: Request) -> ExportReport:
    """Write a .pt2 file. Raises as `export` does."""
    only_unrolled(request)
    made: list[_Draft] = []

    def make(request: Request) -> _Draft:
        made.append(_Draft(request, made[0] if made else None))
        return made[-1]

    draft, found = drafts.write(request, make)
    size = len(draft.content[request.path])
    return ExportReport(request.path, request.form, None, size, found, "the loaded program")


class _Draft:
    """A .pt2 file in memory, and the module that it is compared with.

    A file holds the parameters as they are. So a second draft of a network is the `first` one, run with other weights.
    """

    def __init__(self, request: Request, first: _Draft | None = None) -> None:
        self.request = request
        self.compared = plain(request, "unrolled")
        self.ours, self.given = request.both()
        if first is not None:
            self.state: Mapping[str, Tensor] | None = self.compared.state_dict()
            self.program: ExportedProgram = first.program
            self.sibling: ExportedProgram = first.sibling
            self.content: Mapping[Path, bytes] = first.content
            return
        self.state = None
        module: fx.GraphModule = compile(request.spec, "unrolled", optimize=pipelines.FILE, dtype=torch.float32)
        module.load_state_dict(self.compared.state_dict())
        if request.spec.forward:
            # In an exported program nothing can be called `forward` but its method: layers go by their name in code.
            module = fx.GraphModule(module, module.graph).eval()
        spikes = [node.meta["spikes"] for node in self.compared.graph.nodes if "spikes" in node.meta]
        self.program = _exported(module, request, self.given)
        self.sibling = _exported(_watching(module, spikes), request, self.given)
        self.content = {request.path: _bytes(self.program, request)}

    def prove(self, places: Mapping[Path, Path]) -> proof.Proof:
        """Load the file and run it; beside it a sibling that gives out its spikes, whose graph has to be the file's."""
        names = list(proof.watched(self.compared))
        with _TRACING:
            loaded = torch.export.load(io.BytesIO(places[self.request.path].read_bytes()))
        if _lines(loaded) != _lines(self.sibling) or not _same_tensors(loaded, self.sibling):
            raise CompileError("E075", "the file that was read back is another than the one that was compared")
        outputs = _run(self.sibling, self.given, self.state)
        named = dict(zip(("O", *names), outputs, strict=True))
        compared = proof.compare(self.compared, {"x": self.ours}, named, self.request.spec.readout)
        (again,) = _run(loaded, self.given, self.state)
        proof.same_outputs(again, outputs[0], compared.near)
        return compared.proof

    def graph(self) -> list[str]:
        """The operations of the program."""
        return _lines(self.program)


def _lines(program: ExportedProgram) -> list[str]:
    """The operations of a program and what they read, without what is given out; tensors go by their names."""
    stored = _stored(program)
    shown: dict[fx.Node, str] = {}
    lines: list[str] = []
    for node in program.graph.nodes:
        if node.op == "placeholder":
            shown[node] = stored.get(node.name, "x")
        elif node.op != "output" and (node.users or node.target is not operator.getitem):
            # What a norm gives beside its result is written into the file, although nothing reads it.
            read = fx.node.map_aggregate((node.args, node.kwargs), lambda v: shown[v] if isinstance(v, fx.Node) else v)
            shown[node] = f"%{len(lines)}"
            lines.append(f"{node.op} {node.target} {read}")
    return lines


def _stored(program: ExportedProgram) -> dict[str, str]:
    """For each tensor that a program holds, its name in the state dict by the name of its placeholder."""
    specs = program.graph_signature.input_specs
    return {s.arg.name: s.target for s in specs if s.target is not None and isinstance(s.arg, TensorArgument)}


def _same_tensors(one: ExportedProgram, other: ExportedProgram) -> bool:
    """Whether two programs hold the same values in all tensors that both know."""
    first, second = ({**p.state_dict, **p.constants} for p in (one, other))
    shared = first.keys() & second.keys()
    return all(torch.equal(first[name], second[name]) for name in shared if isinstance(first[name], Tensor))


class _Normalizing(nn.Module):
    """A module after the normalization of its input."""

    def __init__(self, module: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.module = module
        self.mean = nn.Buffer(torch.tensor(normalization.mean).view(-1, 1, 1))
        self.std = nn.Buffer(torch.tensor(normalization.std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module((x - self.mean) / self.std)
        return result


def _watching(module: fx.GraphModule, spikes: list[tuple[int, int, int]]) -> fx.GraphModule:
    """The same module with `spikes`, each a port, a step and 1, as further outputs."""
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(module.graph, copied)
    nodes = {node.meta["spikes"]: node for node in module.graph.nodes if "spikes" in node.meta}
    graph.output((result, *(copied[nodes[place]] for place in spikes)))
    return fx.GraphModule(module, graph).eval()


def _exported(module: nn.Module, request: Request, x: Tensor) -> ExportedProgram:
    if request.inside is not None:
        module = _Normalizing(module, request.inside)
    axis = 1 if request.spec.input.kind == "sequence" else 0
    # One sample would make the batch axis a constant.
    example = x if x.shape[axis] > 1 else torch.cat([x, x], axis)
    try:
        with _TRACING, torch.no_grad():
            program = torch.export.export(module, (example,), dynamic_shapes=({axis: Dim("N", min=1)},))
            made: ExportedProgram = program.run_decompositions({})
            return made
    except Exception as error:
        layers = [each for each in walk(request.spec.backbone.body) if isinstance(each, Registered)]
        if not layers or refuses(error):
            raise
        names = ", ".join(f"`{each.name}` ({each.layer})" for each in layers)
        raise CompileError(
            "E073",
            f"torch.export cannot follow the module: {plugins.reason(error)}",
            span=layers[0].span,
            notes=(f"its registered layers are {names}",),
        ) from error


def _run(program: ExportedProgram, x: Tensor, state: Mapping[str, Tensor] | None) -> list[np.ndarray]:
    """What a program gives for `x`, with the parameters and buffers of a network in `state` if it is given."""
    with _TRACING:
        module = program.module()
    if state is not None:
        given = {tree.in_code(name): value for name, value in state.items()}
        own = module.state_dict()
        for name in own:
            own[name] = given.get(name.removeprefix("module."), own[name])
        module.load_state_dict(own)
    with torch.no_grad():
        results = module(x)
    return [r.numpy() for r in (results if isinstance(results, tuple) else (results,))]


def _bytes(program: ExportedProgram, request: Request) -> bytes:
    facts: Mapping[str, str] = {
        "bcgraph.spec": dsl.format_spec(request.spec),
        "bcgraph.fingerprint": request.spec.fingerprint(),
        "bcgraph.readout": request.spec.readout,
        "bcgraph.classes": "\n".join(request.classes),
        **request.described.metadata(),
    }
    stream = io.BytesIO()
    with _TRACING:
        torch.export.save(program, stream, extra_files=dict(facts))
    return stream.getvalue()
