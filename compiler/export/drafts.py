"""What is written is what was proved: a file is read back from the disk and run before it gets its name.

A target makes a `Draft` of its file in memory. `write` puts it on the disk under a temporary name, lets the target
prove what it reads there, and moves it into place. An untrained network is often silent after its first layers, and a
silent port proves nothing. Then **a copy** of the network, whose batch norms are settled on the inputs, goes through
the same target and is proved too. The artifact keeps the weights that were asked for: its graph has to be the
copy's in all but numbers, and its own numbers are those that the first proof has run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
from torch import Tensor

from bcgraph import files, weights
from bcgraph.compiler import pipelines
from bcgraph.compiler.driver import compile
from bcgraph.compiler.export import bounds
from bcgraph.compiler.export.proof import Proof
from bcgraph.compiler.export.request import Request, drawn
from bcgraph.errors import CompileError
from bcgraph.machine import refuses
from bcgraph.nn.modules import BatchNorm, BatchNormPerStep

# Running statistics move half of the way at each update, so that a few passes forget what they began with.
_MOMENTUM = 0.5
_UPDATES = 9


class Draft(Protocol):
    """A file in memory, and how to prove it from the disk."""

    @property
    def content(self) -> Mapping[Path, bytes]:
        """The bytes of each file by its final path, the main one first."""
        ...

    def prove(self, places: Mapping[Path, Path]) -> Proof | None:
        """Run what is on the disk against torch; `places` tells where each file lies now. Raises E075.

        None where nothing on this machine can run it.
        """
        ...

    def graph(self) -> Any:
        """What the file computes without its numbers: equal for two files that differ in weights alone."""
        ...


def write(request: Request, make: Callable[[Request], Draft]) -> tuple[Draft, Proof | None]:
    """Write the files of a request, proved from the disk. Raises as `export` does, and then writes nothing."""
    draft = make(request)
    with ExitStack() as stack:
        places: dict[Path, Path] = {}
        for path, data in draft.content.items():
            places[path] = stack.enter_context(files.writing(path))
            places[path].write_bytes(data)
        try:
            found = proved(request, draft, places, make)
        except OSError as error:  # a failure to run the file is none to write it
            if refuses(error):
                raise
            raise CompileError("E075", f"the file cannot be run: {error.strerror or error}") from error
    return draft, found


def proved(
    request: Request, draft: Draft, places: Mapping[Path, Path], make: Callable[[Request], Draft]
) -> Proof | None:
    """The proof of files on the disk, and where ports are silent or saturated, that of a settled copy."""
    for path, data in draft.content.items():
        if places[path].read_bytes() != data:
            raise CompileError("E075", f"the disk does not give back what was written to `{path}`")
    found = draft.prove(places)
    state = settled(request) if found is not None and found.quiet and request.settle else None
    if found is None or state is None:
        return found
    copy = make(replace(request, state_dict=state))
    if copy.graph() != draft.graph():
        raise CompileError("E075", "the file changes its graph with the statistics of batch norms")
    with TemporaryDirectory() as folder:
        copied = {path: Path(folder) / path.name for path in copy.content}
        for path, data in copy.content.items():
            copied[path].write_bytes(data)
        return replace(found, settled=copy.prove(copied))


def settled(request: Request) -> dict[str, Tensor] | None:
    """The weights of a request with running statistics of its inputs; None for a network without batch norms."""
    spec = bounds.shortened(request.spec) if request.form == "step" else request.spec
    module = compile(spec, optimize=pipelines.COMPARED, seed=request.seed, dtype=torch.float32).eval()
    if request.state_dict is not None:
        weights.apply(module, dict(request.state_dict))
    norms = [m for m in module.modules() if isinstance(m, BatchNorm | BatchNormPerStep)]
    if not norms:
        return None
    inputs, sequence = request.both()[0], spec.input.kind == "sequence"
    few = inputs.shape[1 if sequence else 0] < 2
    x = drawn(spec, request.seed) if few else inputs[: spec.steps] if sequence else inputs
    for norm in norms:
        norm.train()
        norm.momentum = _MOMENTUM
    by_step = any(isinstance(norm, BatchNormPerStep) for norm in norms)
    with torch.no_grad():
        for _ in range(max(3, math.ceil(_UPDATES / (1 if by_step else spec.steps)))):
            module(x)
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    return state if all(bool(torch.isfinite(v).all()) for v in state.values()) else None
