"""A trained network whose outputs another learns from: a run, a `.bcg` or `.onnx` file, a model of torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bcgraph import dsl, files, run_files, shapes
from bcgraph import weights as weight_files
from bcgraph.compiler import compile as compile_network
from bcgraph.errors import RunError
from bcgraph.normalization import Normalization
from bcgraph.schema import ImageInput, InputSpec, NetworkSpec, SequenceInput
from bcgraph.urls import without_password

PUBLISHED = "torchvision:"

HINT = "a teacher is a run, a .bcg file with its weights beside it, an .onnx file, or `torchvision:NAME`"


@dataclass(frozen=True, eq=False)
class Teacher:
    """`logits` maps samples, as the network takes them, to outputs `[N, classes]`; `digest` tells its weights."""

    logits: Callable[[Tensor], Tensor]
    digest: str

    def __call__(self, x: Tensor) -> Tensor:
        """Its outputs `[N, classes]`, without gradients."""
        with torch.no_grad():
            return self.logits(x)


def load(
    spec: NetworkSpec, device: torch.device, dtype: torch.dtype, normalization: Normalization | None = None
) -> Teacher | None:
    """The teacher that `spec.train` names; None where it names none, or gives it no weight.

    `normalization` is what samples have been through. Raises RunError (E041) for one that does not take the input or
    give the outputs of the network, and what reading it raises.
    """
    named = spec.train.teacher
    if not named or not spec.train.distill:
        return None
    if named.startswith(PUBLISHED):
        return _published(named.removeprefix(PUBLISHED), spec, device, dtype)
    if "://" in named:
        raise RunError("E041", f"the teacher `{without_password(named)}` is a URL, and nothing is fetched", hint=HINT)
    path = files.expanded(named)
    if path.suffix == ".onnx":
        return _exported(path, spec, normalization)
    if path.suffix == ".bcg" and path.is_file():
        return _described(named, path, path.with_suffix(".safetensors"), spec, device, dtype)
    for text, kept in run_files.PAIRS:
        if (path / text).is_file():
            run_files.check_weights(path / kept, dsl.load(path / text).fingerprint())
            return _described(named, path / text, path / kept, spec, device, dtype)
    raise RunError("E041", f"there is no teacher `{named}`", hint=HINT)


def of_module(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Teacher:
    """A torch module as a teacher: it maps samples as the network takes them to outputs `[N, classes]`."""
    placed = module.to(device=device, dtype=dtype).eval()
    return Teacher(placed, weight_files.fingerprint(placed.state_dict()))


def _described(
    named: str, text: Path, kept: Path, spec: NetworkSpec, device: torch.device, dtype: torch.dtype
) -> Teacher:
    found = dsl.load(text)
    _fits(named, spec, found.input, found.steps, shapes.outputs(found))
    if not kept.is_file():
        raise RunError("E041", f"the teacher `{named}` has no weights", notes=(f"looked for `{kept}`",), hint=HINT)
    tensors = weight_files.load(kept, spec=found)
    model = compile_network(found, dtype=dtype, device=device)
    weight_files.apply(model, tensors)
    model.eval()

    def logits(x: Tensor) -> Tensor:
        outputs: Tensor = model(x)
        return outputs[-1] if found.readout == "last" else outputs.mean(0)

    return Teacher(logits, weight_files.fingerprint(tensors))


def _published(name: str, spec: NetworkSpec, device: torch.device, dtype: torch.dtype) -> Teacher:
    from torchvision.models import get_model

    if not isinstance(spec.input, ImageInput) or spec.input.channels != 3:
        problem = f"the teacher `{PUBLISHED}{name}` takes images of 3 channels, which the network does not"
        raise RunError("E041", problem, hint=HINT)
    tensors = weight_files.published(name)
    # The last weights of each of these models are those of its classes.
    number = len(tensors[list(tensors)[-1]])
    _fits(f"{PUBLISHED}{name}", spec, spec.input, spec.steps, number)
    model = get_model(name, weights=None, num_classes=number)
    weight_files.apply(model, tensors)
    placed = model.to(device=device, dtype=dtype).eval()

    def logits(x: Tensor) -> Tensor:
        found: Any = placed(x)
        # Inception and GoogLeNet may give a tuple.
        outputs: Tensor = found if isinstance(found, Tensor) else found[0]
        return outputs

    return Teacher(logits, weight_files.fingerprint(tensors))


def _exported(path: Path, spec: NetworkSpec, normalization: Normalization | None) -> Teacher:
    from hashlib import sha256

    from bcgraph import runtime

    network = runtime.Network(path)
    signature = network.signature
    _fits(str(path), spec, signature.input, signature.steps, len(signature.classes) or shapes.outputs(spec))
    raw = signature.normalization is not None and signature.normalization.inside

    def logits(x: Tensor) -> Tensor:
        values = x.detach().to("cpu", torch.float32)
        values = normalization.raw(values) if raw and normalization is not None else values
        outputs = network(np.ascontiguousarray(values.numpy()))
        chosen = outputs[-1] if signature.readout == "last" else outputs.mean(axis=0)
        return torch.from_numpy(np.ascontiguousarray(chosen)).to(x.device)

    return Teacher(logits, sha256(path.read_bytes()).hexdigest()[:16])


def _fits(named: str, spec: NetworkSpec, form: InputSpec, steps: int, outputs: int) -> None:
    if form != spec.input or (isinstance(form, SequenceInput) and steps != spec.steps):
        raise RunError("E041", f"the teacher `{named}` takes another input than the network", hint=_told(form, steps))
    wanted = shapes.outputs(spec)
    if outputs != wanted:
        problem = f"the teacher `{named}` has {outputs} outputs, but the network has {wanted}"
        raise RunError("E041", problem, hint="train it on the classes of the data set")


def _told(form: InputSpec, steps: int) -> str:
    told = f"it takes {form.kind}({', '.join(map(str, form.shape))})"
    return f"{told} for {steps} steps" if isinstance(form, SequenceInput) else told
