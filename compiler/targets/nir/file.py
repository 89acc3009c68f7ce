"""NIR files: what is refused, what a file says of itself, and its proof by running what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bcgraph import seals
from bcgraph.compiler import pipelines
from bcgraph.compiler.export import drafts, proof, tables
from bcgraph.compiler.export.request import ExportReport, Request, facts, only_unrolled, plain
from bcgraph.compiler.ir import at_step
from bcgraph.compiler.targets.nir import limits
from bcgraph.compiler.targets.nir.primitives import DT
from bcgraph.errors import CompileError
from bcgraph.names import of_network

if TYPE_CHECKING:
    from bcgraph.compiler.targets.nir.runtime import Network


def write(request: Request) -> ExportReport:
    """Write a .nir file. Raises as `export` does."""
    only_unrolled(request)
    found = limits.check(request.spec, allow_loss=request.allow_loss)
    require()
    asked = _carried(request, found)

    def make(request: Request) -> _Draft:
        return _Draft(request, found)

    draft, proved = drafts.write(asked, make)
    assert isinstance(draft, _Draft)
    changed = _changed(request, draft.outputs) if found else None
    return ExportReport(
        request.path,
        "nir",
        None,
        len(draft.content[request.path]),
        proved,
        "the file that was read back",
        losses=tuple(str(loss) for loss in found),
        changed=changed,
    )


class _Draft:
    """A NIR file in memory, and the module that it is compared with; `outputs` `[T, N, classes]` are its proof's."""

    def __init__(self, request: Request, losses: tuple[limits.Loss, ...]) -> None:
        import nir

        from bcgraph.compiler.targets.nir import emitter as target

        self.request = request
        self.module = plain(request, "unrolled")
        values = {k: v.detach().numpy() for k, v in self.module.state_dict().items()}
        described = facts(replace(request, form="nir"))
        described["bcgraph.dt"] = repr(DT)
        described[f"bcgraph.{seals.NAME}"] = seals.BLANK
        described["bcgraph.losses"] = json.dumps([str(loss) for loss in losses])
        lowered = pipelines.optimized(request.spec, pipelines.NIR)
        tables.check(lowered.nodes, target.EMIT, "nir")
        made = target.to_nir(lowered, values, described, request.inside)
        self.edges = [(name, type(node).__name__) for name, node in made.nodes.items()], sorted(made.edges)
        stream = BytesIO()
        nir.write(stream, made)
        self.content = {request.path: seals.seal(stream.getvalue())}
        self.outputs = np.empty(0)

    def prove(self, places: Mapping[Path, Path]) -> proof.Proof:
        """Run the file: it gives out the value of every node."""
        from bcgraph.compiler.targets.nir.runtime import Network, State

        request, network = self.request, Network(places[self.request.path])
        x, given = request.both()
        sequence = request.spec.input.kind == "sequence"
        states: State = {}
        outputs: list[np.ndarray] = []
        spikes: dict[str, np.ndarray] = {}
        for t in range(request.spec.steps):
            values, states = network.run(given[t] if sequence else given, states)
            outputs.append(values["output"].numpy())
            spikes.update({at_step(f"{label}.s", t): values[name].numpy() for label, name in network.spikes.items()})
        self.outputs = np.stack(outputs)
        return proof.compare(self.module, {"x": x}, {"O": self.outputs} | spikes, request.spec.readout).proof

    def graph(self) -> object:
        """The nodes by kind, and the edges."""
        return self.edges


def load(path: Path) -> Network:
    """A NIR file, ready to run. Raises CompileError (E092) and RunError (E087)."""
    require()
    from bcgraph.compiler.targets.nir.runtime import Network

    return Network(path)


def written_here(path: Path) -> bool:
    """Whether bcgraph has written a NIR file. Raises CompileError (E092) and RunError (E087)."""
    require()
    from bcgraph.compiler.targets.nir import reading

    return reading.is_ours(reading.parse(path, reading.content(path)))


def require() -> None:
    """Raise CompileError (E092) without the package `nir`."""
    if find_spec("nir") is None:
        raise CompileError("E092", "NIR files need the package `nir`", hint="pip install 'bcgraph[nir]'")


def _carried(request: Request, found: tuple[limits.Loss, ...]) -> Request:
    """The request for what NIR can say of the network, with the weights that belong to it."""
    spec = limits.carried(request.spec, found)
    weights = request.state_dict
    before, after = request.spec.prefixes(), {each.place: prefix for each, prefix in spec.prefixes().items()}
    prefixes = {before[each]: after[limits.key(each, found)] for each in limits.kept(request.spec, found)}
    kept = None if weights is None else of_network(weights, prefixes)
    return replace(request, spec=spec, state_dict=kept)


def _changed(request: Request, outputs: np.ndarray) -> float:
    """The share of samples that the network with all its connections predicts otherwise."""
    whole = plain(request, "unrolled")
    with torch.no_grad():
        expected = whole(request.inputs).numpy()
    ours, theirs = (proof.predictions(o, request.spec.readout) for o in (expected, outputs))
    return float((ours != theirs).mean())
