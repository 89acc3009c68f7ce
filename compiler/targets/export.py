"""Export: a specification with weights becomes a file, proved before it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bcgraph import files, plugins
from bcgraph.compiler.export import bounds
from bcgraph.compiler.export.provenance import Provenance
from bcgraph.compiler.export.request import ExportReport, Request, drawn
from bcgraph.compiler.targets import TARGETS
from bcgraph.errors import CompileError, nearest
from bcgraph.nn.defaults import ordinary_defaults
from bcgraph.normalization import Normalization
from bcgraph.schema import NetworkSpec


@ordinary_defaults()
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
    inherited: bool = False,
    int8: bool = False,
    inline: bool = False,
    settle: bool = True,
    provenance: Provenance | None = None,
) -> ExportReport:
    """Write `spec` with its weights to `path`; the ending chooses the target, a key of `TARGETS` or a registered one.

    `form` is one of ONNX's: `unrolled` (all steps in one graph, `x -> O`), `step` (`(x_t, *states) -> (O_t, *states)`)
    or `scan` (`x -> O` by one Scan node, whose size does not grow with the steps). Without a `state_dict` the weights
    are freshly drawn from `seed`. The file is run on `inputs` (normalized, as the model takes them; drawn when
    absent) and is only written when it computes what torch does. `classes` and `normalization` are kept in the
    file; with `normalization.inside` it takes samples that are not normalized yet. A backward connection that the
    target cannot say is refused; with `allow_loss` it is left out or its delay shortened, and the report says so.
    `inherited` says that the weights are those of a supernet, and so does the file then (see `bcgraph.origins`).
    With `int8` a `.c` file holds its weights in 8 bits; an ONNX file is quantized once it is written
    (`targets.onnx.int8`). With `inline` an ONNX file has the operations of its neurons in place of local functions,
    which not all runtimes know. Without `settle` a network with silent ports is not proved a second time with settled
    norms. `provenance` is what else is known of the weights (`compiler.export.provenance`), for the file to say.

    Raises CompileError (E054 too many steps to write out, E072 unknown form or ending, E073 what the target cannot
    express, E075 a failed proof, E092 an optional part is missing), WeightsError (E083) and RunError (E084).
    """
    target = Path(path)
    write = _writer(spec, target)
    _check_normalization(spec, normalization)
    bounds.check(spec, "step" if target.suffix == ".c" else form)
    x = drawn(spec, seed) if inputs is None else inputs.to(torch.float32)
    if int8 and target.suffix != ".c":
        raise CompileError("E072", f"`{target.suffix}` files cannot be written in 8 bits", hint="leave out `int8`")
    if inline and target.suffix != ".onnx":
        raise CompileError("E072", f"`{target.suffix}` files have no local functions", hint="leave out `inline`")
    request = Request(
        spec,
        target,
        state_dict,
        form,
        x,
        classes,
        normalization,
        seed,
        allow_loss,
        inherited,
        int8,
        inline,
        settle,
        provenance or Provenance(),
    )
    return write(request)


def _writer(spec: NetworkSpec, path: Path) -> Callable[[Request], ExportReport]:
    """What writes a file of this ending."""
    if path.suffix in TARGETS:
        return cast("Callable[[Request], ExportReport]", import_module(TARGETS[path.suffix]).write)
    entry = plugins.find("target", path.suffix, spec.uses)
    if entry is None:
        known = (*TARGETS, *(e.name for e in plugins.REGISTRY.entries() if e.kind == "target"))
        hint = nearest(path.suffix, known) or f"known: {', '.join(sorted(known))}"
        raise CompileError("E072", f"no target writes `{path.name}`", hint=hint)
    return partial(_registered, entry)


def _registered(entry: plugins.Entry, request: Request) -> ExportReport:
    """What a registered target writes: its content is written here, a report means that it has written itself."""
    with plugins.calling(entry):
        made = entry.value.write(request)
    if isinstance(made, str):
        made = made.encode()
    if isinstance(made, bytes):
        files.write_bytes(request.path, made)
        return ExportReport(request.path, request.form, None, len(made), None, entry.name)
    if not isinstance(made, ExportReport):
        raise plugins.PluginError(
            "E095",
            f"{entry.title} gives neither the content of a file nor an `ExportReport`, but {type(made).__name__}",
            notes=(f"it is registered by {entry.origin}",),
        )
    return made


def _check_normalization(spec: NetworkSpec, normalization: Normalization | None) -> None:
    if normalization is None:
        return
    channels = spec.input.channels
    if {len(normalization.mean), len(normalization.std)} != {channels} or not all(s > 0 for s in normalization.std):
        raise CompileError(
            "E090", f"a normalization of this network has {channels} means and as many standard deviations above 0"
        )
