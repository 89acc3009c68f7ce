"""What all targets share: what is asked of them, what they report, and real values to prove a file on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, fx

from bcgraph import dsl, weights
from bcgraph.compiler import pipelines
from bcgraph.compiler.driver import compile
from bcgraph.compiler.export import provenance as origins
from bcgraph.compiler.export.proof import Proof
from bcgraph.compiler.export.provenance import Provenance
from bcgraph.errors import CompileError
from bcgraph.keys import derive
from bcgraph.normalization import Normalization
from bcgraph.profile import profile
from bcgraph.schema import NetworkSpec


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be written, and where. `inputs` are normalized and as the model takes them."""

    spec: NetworkSpec
    path: Path
    state_dict: Mapping[str, Tensor] | None
    form: str
    inputs: Tensor
    classes: tuple[str, ...]
    normalization: Normalization | None
    seed: int
    allow_loss: bool = False
    inherited: bool = False
    int8: bool = False
    inline: bool = False
    settle: bool = True
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def inside(self) -> Normalization | None:
        """The normalization that the file is to do itself, if it is."""
        return self.normalization if self.normalization is not None and self.normalization.inside else None

    @property
    def described(self) -> Provenance:
        """Where the weights come from, as the file says it."""
        drawn = self.seed if self.state_dict is None else None
        found = origins.settled(self.provenance, inherited=self.inherited, drawn=drawn)
        return replace(found, changed=origins.QUANTIZED) if self.int8 else found

    def both(self) -> tuple[Tensor, Tensor]:
        """The inputs for torch and for the file, which takes them before normalization if it normalizes itself."""
        if self.inside is None:
            return self.inputs, self.inputs
        raw = self.inside.raw(self.inputs)
        return self.inside.normalized(raw), raw


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: the file, its form, its size in bytes, and what the proof found.

    `opset` is that of an ONNX file, `by` what ran the file to prove it, `beside` further files that belong to it.
    A registered target may have no proof.
    `losses` are the things that the file does not say, where that was allowed, and `changed` is the share of samples
    that are predicted otherwise for it. `notes` are further lines to tell, as the bytes that a C file needs.
    """

    path: Path
    form: str
    opset: int | None
    size: int
    proof: Proof | None
    by: str = "onnxruntime"
    beside: tuple[Path, ...] = ()
    losses: tuple[str, ...] = ()
    changed: float | None = None
    notes: tuple[str, ...] = ()


def plain(request: Request, schedule: str) -> fx.GraphModule:
    """The module that a file is compared with, in float32 and eval mode, with the weights that were asked for."""
    module = compile(request.spec, schedule, optimize=pipelines.COMPARED, seed=request.seed, dtype=torch.float32).eval()
    if request.state_dict is not None:
        weights.apply(module, dict(request.state_dict))
    return module


def facts(request: Request) -> dict[str, str]:
    """What a file says of itself: the specification, its fingerprint, and what is needed to run it."""
    spec = request.spec
    costs = profile(spec)
    image = {"kind": spec.input.kind, **spec.input.sizes}
    found = {
        "bcgraph.spec": dsl.format_spec(spec),
        "bcgraph.fingerprint": spec.fingerprint(),
        "bcgraph.form": request.form,
        "bcgraph.steps": str(spec.steps),
        "bcgraph.readout": spec.readout,
        "bcgraph.input": json.dumps(image),
        "bcgraph.ports": json.dumps(list(spec.ports)),
        "bcgraph.classes": json.dumps(list(request.classes)),
        "bcgraph.parameters": str(costs.parameters),
        "bcgraph.operations": str(costs.operations),
    }
    normal = request.normalization
    if normal is not None:
        found["bcgraph.normalization"] = normal.as_json()
    return found | request.described.metadata()


def only_unrolled(request: Request) -> None:
    """Raise CompileError (E072) unless the form is `unrolled`, for targets that have no other."""
    if request.form != "unrolled":
        raise CompileError(
            "E072",
            f"`{request.path.suffix}` files have no form `{request.form}`",
            hint="leave out --form; ONNX files (.onnx) have the forms step and scan",
        )


def drawn(spec: NetworkSpec, seed: int, samples: int = 8) -> Tensor:
    """Inputs drawn from a normal distribution, `[N, C, H, W]` or `[T, N, C, H, W]`."""
    image = spec.input
    lead = (spec.steps, samples) if image.kind == "sequence" else (samples,)
    generator = torch.Generator().manual_seed(derive(seed, "export", "inputs"))
    return torch.randn((*lead, *image.shape), generator=generator)
