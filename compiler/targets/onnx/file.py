"""ONNX files: the passes of each form, what a file says of itself, and its proof in onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, fx

from bcgraph import files, seals
from bcgraph.compiler import pipelines
from bcgraph.compiler.export import bounds, proof, tables
from bcgraph.compiler.export.request import ExportReport, Request, facts, plain
from bcgraph.compiler.ir import Program, at_step
from bcgraph.compiler.targets.fx.module import StepModule
from bcgraph.compiler.targets.onnx.emitter import EMIT, OPSET, to_onnx
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
    data, found = build(request)
    files.write_bytes(request.path, data)
    return ExportReport(request.path, request.form, OPSET, len(data), found)


def build(request: Request) -> tuple[bytes, proof.Proof]:
    """The bytes of the file and what its proof found; nothing is written."""
    form = request.form
    if form not in FORMS:
        hint = nearest(form, FORMS) or f"known: {', '.join(FORMS)}"
        raise CompileError("E072", f"there is no form `{form}`", hint=hint)
    passes, schedule = FORMS[form]
    program = pipelines.program(request.spec, schedule, passes)
    tables.check(program.nodes, EMIT, "onnx")
    module = plain(request, "step" if form == "step" else "unrolled")
    values = {k: v.detach().numpy() for k, v in module.state_dict().items()}
    described = metadata(request, program)
    emit = to_scan if form == "scan" else to_onnx
    watch = list(proof.watched(module))
    if form == "scan":
        watch = list(dict.fromkeys(name.rpartition("@t")[0] for name in watch))
    found = _PROVE[form](request, module, emit(program, values, described, watch, request.inside), program)
    described[f"bcgraph.{seals.NAME}"] = seals.BLANK
    return seals.seal(_serialize(emit(program, values, described, (), request.inside))), found


def metadata(request: Request, program: Program) -> dict[str, str]:
    """What the file says of itself: with what all files say, its opset, and its states and what they mean."""
    states = [
        {"input": s.input, "output": f"next.{s.input}", "shape": list(s.shape), "meaning": s.meaning}
        for s in program.states
    ]
    found = facts(request)
    found["bcgraph.states"] = json.dumps(states if request.form == "step" else [])
    found["bcgraph.opset"] = str(OPSET)
    return found


def _serialize(model: ir.Model) -> bytes:
    data: bytes = ir.to_proto(model).SerializeToString()
    return data


class _Running:
    """A model in onnxruntime that gives out O and the spikes it watches, checked before it is loaded."""

    def __init__(self, model: ir.Model) -> None:
        data = _serialize(model)
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
        self.session = proof.session(data)
        self.names = [value.name for value in self.session.get_outputs()]

    def __call__(self, feed: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        results = self.session.run(self.names, {k: v.numpy() for k, v in feed.items()})
        return {n.removesuffix(".watched"): r for n, r in zip(self.names, results, strict=True)}


def _prove_whole(request: Request, module: fx.GraphModule, model: ir.Model, program: Program) -> proof.Proof:
    ours, theirs = request.both()
    name = program.inputs[0].name
    return proof.compare(module, {name: ours}, _Running(model)({name: theirs}), request.spec.readout)


def _prove_scan(request: Request, module: fx.GraphModule, model: ir.Model, program: Program) -> proof.Proof:
    ours, theirs = request.both()
    name = program.inputs[0].name
    first, *spikes = _Running(model)({name: theirs}).items()
    split = {at_step(n, t): value for n, steps in spikes for t, value in enumerate(steps)}
    return proof.compare(module, {name: ours}, dict([first]) | split, request.spec.readout)


def _prove_step(request: Request, module: fx.GraphModule, model: ir.Model, program: Program) -> proof.Proof:
    """From zero states, then from states that steps of torch have made, then all steps on the file's own states."""
    assert isinstance(module, StepModule)
    spec, run = request.spec, _Running(model)
    frames = [x if spec.input.kind == "sequence" else [x] for x in request.both()]
    states = module.initial_states(frames[0][0])
    found: list[proof.Proof] = []
    for t in range(3):
        ours, theirs = (part[min(t, len(part) - 1)] for part in frames)
        names = [v.name for v in program.inputs]
        feeds = (dict(zip(names, (frame, *states), strict=True)) for frame in (ours, theirs))
        found.append(proof.compare(module, next(feeds), run(next(feeds)), spec.readout))
        with torch.no_grad():
            states = module(ours, *states)[1:]
    found.append(_prove_chain(request, run, program))
    return proof.Proof(
        samples=found[0].samples,
        firing=min(p.firing for p in found),
        logit_difference=max(p.logit_difference for p in found),
        differing_spikes=max(p.differing_spikes for p in found),
        differing_samples=max(p.differing_samples for p in found),
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
        states = {s.input: torch.from_numpy(values.pop(f"next.{s.input}")) for s in program.states}
        spikes.update({at_step(name, t): value for name, value in values.items()})
    name = next(node.name for node in unrolled.graph.nodes if node.op == "placeholder")
    ours = ours[: spec.steps] if sequence else ours
    return proof.compare(unrolled, {name: ours}, {"O": np.stack(outputs)} | spikes, spec.readout)


_PROVE = {"unrolled": _prove_whole, "step": _prove_step, "scan": _prove_scan}
