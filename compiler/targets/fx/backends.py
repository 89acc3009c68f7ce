"""Backends: what runs a compiled module. A backend is a contract: it runs the whole graph, or says that it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from bcgraph.errors import CompileError, nearest
from bcgraph.nn.graphs.module import GraphedCall
from bcgraph.nn.graphs.recordings import cuda


def _eager(module: fx.GraphModule) -> None:
    """torch's own kernels, node by node."""


def _inductor(module: fx.GraphModule) -> None:
    """torch.compile of the whole graph, without any fallback to eager."""
    compiled = torch.compile(module._call_impl, backend="inductor", fullgraph=True)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            first = str(error).strip().splitlines()[0]
            raise CompileError(
                "E074",
                f"inductor cannot run this network: {first}",
                hint="it needs a working C++ compiler; the backend `eager` needs nothing",
            ) from error

    module._compiled_call_impl = guarded


BACKENDS: Mapping[str, Callable[[fx.GraphModule], None]] = {"eager": _eager, "inductor": _inductor}


def use(backend: str, module: fx.GraphModule) -> None:
    """Let `backend` run `module`. Raises CompileError: E072 for an unknown one, E074 (at the first call)
    where it cannot."""
    if backend not in BACKENDS:
        hint = nearest(backend, BACKENDS) or f"known: {', '.join(BACKENDS)}"
        raise CompileError("E072", f"there is no backend `{backend}`", hint=hint)
    module.meta["backend"] = backend
    BACKENDS[backend](module)
    if module.meta.get("graphs"):
        module._compiled_call_impl = GraphedCall(module, module._compiled_call_impl or module._call_impl, cuda())
