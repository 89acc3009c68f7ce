"""Export: a specification with weights becomes a file, proved before it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bcgraph.compiler.export import bounds
from bcgraph.compiler.export.request import ExportReport, Request, drawn
from bcgraph.errors import CompileError, nearest
from bcgraph.normalization import Normalization
from bcgraph.schema import NetworkSpec

# The ending of a file -> the module whose `write` makes it, imported when it is asked for.
TARGETS: Mapping[str, str] = {
    ".nir": "bcgraph.compiler.targets.nir.file",
    ".onnx": "bcgraph.compiler.targets.onnx.file",
    ".pt2": "bcgraph.compiler.targets.pt2",
    ".py": "bcgraph.compiler.targets.python.emitter",
}


def export(
    spec: NetworkSpec,
    path: str | PathLike[str],
    *,
    state_dict: Mapping[str, Tensor] | None = None,
    form: str = "unrolled",
    inputs: Tensor | None = None,
    classes: tuple[str, ...] = (),
    normalization: Normalization | None = None,
    seed: int = 0,
    allow_loss: bool = False,
) -> ExportReport:
    """Write `spec` with its weights to `path`; the ending chooses the target, a key of `TARGETS`.

    `form` is one of ONNX's: `unrolled` (all steps in one graph, `x -> O`), `step` (`(x_t, *states) -> (O_t, *states)`)
    or `scan` (`x -> O` by one Scan node, whose size does not grow with the steps). Without a `state_dict` the weights
    are freshly drawn from `seed`. The file is run on `inputs` (normalized, as the model takes them; drawn when
    absent) and is only written when it computes what torch does. `classes` and `normalization` are kept in the
    file; with `normalization.inside` it takes samples that are not normalized yet. A backward connection that the
    target cannot say is refused; with `allow_loss` it is left out or its delay shortened, and the report says so.

    Raises CompileError (E054 too many steps to write out, E072 unknown form or ending, E073 what the target cannot
    express, E075 a failed proof, E092 an optional part is missing), WeightsError (E083) and RunError (E084).
    """
    target = Path(path)
    if target.suffix not in TARGETS:
        hint = nearest(target.suffix, TARGETS) or f"known: {', '.join(sorted(TARGETS))}"
        raise CompileError("E072", f"no target writes `{target.name}`", hint=hint)
    _check_normalization(spec, normalization)
    bounds.check(spec, form)
    x = drawn(spec, seed) if inputs is None else inputs.to(torch.float32)
    request = Request(spec, target, state_dict, form, x, classes, normalization, seed, allow_loss)
    write = cast("Callable[[Request], ExportReport]", import_module(TARGETS[target.suffix]).write)
    return write(request)


def _check_normalization(spec: NetworkSpec, normalization: Normalization | None) -> None:
    if normalization is None:
        return
    channels = spec.input.channels
    if {len(normalization.mean), len(normalization.std)} != {channels} or not all(s > 0 for s in normalization.std):
        raise CompileError(
            "E090", f"a normalization of this network has {channels} means and as many standard deviations above 0"
        )
