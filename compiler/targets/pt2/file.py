"""Target .pt2: the unrolled module by torch.export, of torch's own operations alone, with the batch axis free.

`torch.export.load` needs torch and nothing else. The proof runs a second export of the same module, one that also
gives out its spikes; then the bytes that are to be written are loaded and must give what that one gave.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from bcgraph import dsl, files, plugins
from bcgraph.compiler import pipelines
from bcgraph.compiler.driver import compile
from bcgraph.compiler.export import proof
from bcgraph.compiler.export.request import ExportReport, Request, only_unrolled, plain
from bcgraph.errors import CompileError
from bcgraph.memory import ran_out
from bcgraph.normalization import Normalization
from bcgraph.schema import Registered, walk


def write(request: Request) -> ExportReport:
    """Write a .pt2 file. Raises as `export` does."""
    only_unrolled(request)
    compared = plain(request, "unrolled")
    module: fx.GraphModule = compile(request.spec, "unrolled", optimize=pipelines.FILE, dtype=torch.float32)
    module.load_state_dict(compared.state_dict())
    ours, given = request.both()
    if request.spec.forward:
        # In an exported program nothing can be called `forward` but its method: these layers go by their name in code.
        module = fx.GraphModule(module, module.graph).eval()
    names = list(proof.watched(compared))
    spikes = [node.meta["spikes"] for node in compared.graph.nodes if "spikes" in node.meta]
    outputs = _run(_exported(_watching(module, spikes), request, given), given)
    found = proof.compare(compared, {"x": ours}, dict(zip(("O", *names), outputs, strict=True)), request.spec.readout)
    data = _bytes(_exported(module, request, given), request)
    (again,) = _run(torch.export.load(io.BytesIO(data)), given)
    if not np.allclose(again, outputs[0], rtol=1e-4, atol=1e-4):
        raise CompileError("E075", "the .pt2 file computes something else than its module once it is loaded")
    files.write_bytes(request.path, data)
    return ExportReport(request.path, request.form, None, len(data), found, "the loaded program")


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
        with torch.no_grad():
            program = torch.export.export(module, (example,), dynamic_shapes=({axis: Dim("N", min=1)},))
            made: ExportedProgram = program.run_decompositions({})
            return made
    except Exception as error:
        layers = [each for each in walk(request.spec.backbone.body) if isinstance(each, Registered)]
        if not layers or ran_out(error):
            raise
        names = ", ".join(f"`{each.name}` ({each.layer})" for each in layers)
        raise CompileError(
            "E073",
            f"torch.export cannot follow the module: {plugins.reason(error)}",
            span=layers[0].span,
            notes=(f"its registered layers are {names}",),
        ) from error


def _run(program: ExportedProgram, x: Tensor) -> list[np.ndarray]:
    with torch.no_grad():
        results = program.module()(x)
    return [r.numpy() for r in (results if isinstance(results, tuple) else (results,))]


def _bytes(program: ExportedProgram, request: Request) -> bytes:
    facts: Mapping[str, str] = {
        "bcgraph.spec": dsl.format_spec(request.spec),
        "bcgraph.fingerprint": request.spec.fingerprint(),
        "bcgraph.readout": request.spec.readout,
        "bcgraph.classes": "\n".join(request.classes),
    }
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files=dict(facts))
    return stream.getvalue()
