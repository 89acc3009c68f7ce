"""ONNX files: the passes of each form, what a file says of itself, and its proof in onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.inliner import inline_local_functions
from torch import Tensor, fx

from bcgraph import seals
from bcgraph.compiler import pipelines
from bcgraph.compiler.export import bounds, drafts, proof, tables
from bcgraph.compiler.export.request import ExportReport, Request, facts, plain
from bcgraph.compiler.ir import Program, at_step
from bcgraph.compiler.targets.fx.module import StepModule
from bcgraph.compiler.targets.onnx import siblings
from bcgraph.compiler.targets.onnx.building import OPSET
from bcgraph.compiler.targets.onnx.emitter import EMIT, next_names, to_onnx
from bcgraph.compiler.targets.onnx.scan import to_scan
from bcgraph.errors import CompileError, nearest

# For each form, the passes and the schedule of its program. A scan keeps its states to itself, so its norms are folded.
FORMS: Mapping[str, tuple[pipelines.Names, str]] = {
    "unrolled": (pipelines.FILE, "unrolled"),
    "step": (pipelines.FILE_OF_A_STEP, "step"),
    "scan": (pipelines.FILE, "step"),
}


def write(request: Request) -> ExportReport:
    """Write an ONNX file. Raises as `export` does."""
    if request.form not in FORMS:
        hint = nearest(request.form, FORMS) or f"known: {', '.join(FORMS)}"
        raise CompileError("E072", f"there is no form `{request.form}`", hint=hint)
    draft, found = drafts.write(request, _Draft)
    return ExportReport(request.path, request.form, OPSET, len(draft.content[request.path]), found)


class _Draft:
    """An ONNX file in memory, and the torch module that it is compared with."""

    def __init__(self, request: Request) -> None:
        self.request = request
        passes, schedule = FORMS[request.form]
        self.program = pipelines.program(request.spec, schedule, passes)
        tables.check(self.program.nodes, EMIT, "onnx")
        self.module = plain(request, "step" if request.form == "step" else "unrolled")
        self.weights = {k: v.detach().numpy() for k, v in self.module.state_dict().items()}
        self.described = metadata(request, self.program)
        self.described[f"bcgraph.{seals.NAME}"] = seals.BLANK
        self.content = {request.path: seals.seal(self._emitted(()).SerializeToString())}

    def _emitted(self, watch: Sequence[str]) -> onnx.ModelProto:
        emit = to_scan if self.request.form == "scan" else to_onnx
        made = ir.to_proto(emit(self.program, self.weights, self.described, watch, self.request.inside))
        return inline_local_functions(made) if self.request.inline else made

    def prove(self, places: Mapping[Path, Path]) -> proof.Proof:
        """Run the file, and beside it a sibling that also gives out its spikes, whose graph has to be the file's."""
        watch = list(proof.watched(self.module))
        if self.request.form == "scan":
            watch = list(dict.fromkeys(name.rpartition("@t")[0] for name in watch))
        data = places[self.request.path].read_bytes()
        file, sibling = onnx.load_from_string(data), self._emitted(watch)
        if siblings.bare(file, ()) != siblings.bare(sibling, watch):
            raise CompileError("E075", "the file that was read back is another than the one that was compared")
        running = _Running(data, sibling)
        return _PROVE[self.request.form](self.request, self.module, running, self.program)

    def graph(self) -> bytes:
        """The graph without its numbers."""
        return siblings.bare(onnx.load_from_string(self.content[self.request.path]), (), numbers=False)


def metadata(request: Request, program: Program) -> dict[str, str]:
    """What the file says of itself: with what all files say, its opset, and its states and what they mean."""
    states = [
        {"input": s.input, "output": after, "shape": list(s.shape), "meaning": s.meaning}
        for s, after in zip(program.states, next_names(program), strict=True)
    ]
    found = facts(request)
    found["bcgraph.states"] = json.dumps(states if request.form == "step" else [])
    found["bcgraph.opset"] = str(OPSET)
    return found


class _Running:
    """A file in onnxruntime, and its sibling that gives out the spikes that are watched, both checked before."""

    def __init__(self, file: bytes, sibling: onnx.ModelProto) -> None:
        onnx.checker.check_model(onnx.load_from_string(file), full_check=True)
        onnx.checker.check_model(sibling, full_check=True)
        self.file = proof.session(file)
        self.sibling = proof.session(sibling.SerializeToString())
        self.names = [value.name for value in self.sibling.get_outputs()]
        self.results: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, feed: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """What the sibling gives; the output O of both is kept, to be compared by `check`."""
        arrays = {k: v.numpy() for k, v in feed.items()}
        found = self.sibling.run(self.names, arrays)
        self.results.append((self.file.run(None, arrays)[0], found[0]))
        return {n.removesuffix(".watched"): r for n, r in zip(self.names, found, strict=True)}

    def check(self, compared: proof.Comparison) -> proof.Proof:
        """The proof, where the file has given what its sibling gave since the last check. Raises E075."""
        for ours, theirs in self.results:
            proof.same_outputs(ours, theirs, compared.near)
        self.results.clear()
        return compared.proof


def _prove_whole(request: Request, module: fx.GraphModule, run: _Running, program: Program) -> proof.Proof:
    ours, theirs = request.both()
    name = program.inputs[0].name
    return run.check(proof.compare(module, {name: ours}, run({name: theirs}), request.spec.readout))


def _prove_scan(request: Request, module: fx.GraphModule, run: _Running, program: Program) -> proof.Proof:
    ours, theirs = request.both()
    name = program.inputs[0].name
    first, *spikes = run({name: theirs}).items()
    split = {at_step(n, t): value for n, steps in spikes for t, value in enumerate(steps)}
    return run.check(proof.compare(module, {name: ours}, dict([first]) | split, request.spec.readout))


def _prove_step(request: Request, module: fx.GraphModule, run: _Running, program: Program) -> proof.Proof:
    """From zero states, then from states that steps of torch have made, then all steps on the file's own states."""
    assert isinstance(module, StepModule)
    spec = request.spec
    frames = [x if spec.input.kind == "sequence" else [x] for x in request.both()]
    states = module.initial_states(frames[0][0])
    if len(states) != len(program.states):
        raise CompileError("E075", f"the exported file has {len(program.states)} states instead of {len(states)}")
    found: list[proof.Proof] = []
    for t in range(3):
        ours, theirs = (part[min(t, len(part) - 1)] for part in frames)
        names = [v.name for v in program.inputs]
        feeds = (dict(zip(names, (frame, *states), strict=True)) for frame in (ours, theirs))
        found.append(run.check(proof.compare(module, next(feeds), run(next(feeds)), spec.readout)))
        with torch.no_grad():
            states = module(ours, *states)[1:]
    found.append(_prove_chain(request, run, program))
    return proof.Proof(
        samples=found[0].samples,
        firing=min(p.firing for p in found),
        logit_difference=max(p.logit_difference for p in found),
        differing_spikes=max(p.differing_spikes for p in found),
        differing_samples=max(p.differing_samples for p in found),
        ports=found[-1].ports,
        not_finite=max(p.not_finite for p in found),
    )


def _prove_chain(request: Request, run: _Running, program: Program) -> proof.Proof:
    """All steps (the first of very many), each from the file's own states, against the unrolled network."""
    spec = bounds.shortened(request.spec)
    unrolled = plain(replace(request, spec=spec), "unrolled")
    ours, theirs = request.both()
    sequence = spec.input.kind == "sequence"
    batch = ours.shape[1 if sequence else 0]
    states = {s.input: torch.zeros((batch, *s.shape)) for s in program.states}
    outputs: list[np.ndarray] = []
    spikes: dict[str, np.ndarray] = {}
    for t in range(spec.steps):
        first, *rest = run({program.inputs[0].name: theirs[t] if sequence else theirs, **states}).items()
        outputs.append(first[1])
        values = dict(rest)
        after = zip(program.states, next_names(program), strict=True)
        states = {s.input: torch.from_numpy(values.pop(name)) for s, name in after}
        spikes.update({at_step(name, t): value for name, value in values.items()})
    name = next(node.name for node in unrolled.graph.nodes if node.op == "placeholder")
    ours = ours[: spec.steps] if sequence else ours
    outputs_and_spikes = {"O": np.stack(outputs)} | spikes
    return run.check(proof.compare(unrolled, {name: ours}, outputs_and_spikes, spec.readout))


_PROVE = {"unrolled": _prove_whole, "step": _prove_step, "scan": _prove_scan}
