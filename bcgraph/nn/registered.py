"""Modules of registered layers: built by their key, and held to what their shape rules declare."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bcgraph import plugins, schema, shapes
from bcgraph.errors import BcgraphError, CompileError
from bcgraph.machine import refuses
from bcgraph.nn.determinism import forked
from bcgraph.shapes import Shape

_MARK = "_bcgraph_registered"
_SAMPLES = 3


def is_registered(module: nn.Module) -> bool:
    """Whether a module is that of a registered layer, with all its submodules."""
    return _MARK in vars(module)


def build(layer: schema.Registered, given: Shape, key: int) -> nn.Module:
    """The module of `layer` for the shape that reaches it, its weights drawn by `key`.

    It runs once on drawn samples. Raises CompileError (E056) at the layer when building or running it fails, when the
    result is of another shape than the rule says, or when one sample changes the result of another.
    """
    entry = shapes.registered(layer)
    declared = shapes.infer(layer, given)
    with forked(key):
        try:
            module = entry.value.build()(given, **dict(layer.arguments))
            trial = copy.deepcopy(module)
        except BcgraphError:
            raise
        except Exception as error:
            if refuses(error):
                raise
            raise _wrong(layer, entry, f"building it fails: {plugins.reason(error)}") from error
        if not isinstance(module, nn.Module):
            raise _wrong(layer, entry, f"it is no torch module, but {type(module).__name__}")
        module.to(device="cpu", dtype=torch.float32)
        _check(trial.to(device="cpu", dtype=torch.float32).eval(), layer, entry, given, declared)
    setattr(module, _MARK, entry.name)
    return module


@torch.no_grad()
def _check(module: nn.Module, layer: schema.Registered, entry: plugins.Entry, given: Shape, declared: Shape) -> None:
    x = torch.rand((_SAMPLES, *given))
    try:
        result, alone = module(x.clone()), module(x[:1].clone())
    except Exception as error:
        if refuses(error):
            raise
        raise _wrong(layer, entry, f"it fails for {shapes.text(given)}: {plugins.reason(error)}") from error
    if not isinstance(result, Tensor):
        raise _wrong(layer, entry, f"it gives no tensor, but {type(result).__name__}")
    if result.shape != (_SAMPLES, *declared):
        shown = f"{_SAMPLES} samples of {shapes.text(given)}"
        raise _wrong(
            layer,
            entry,
            f"of {shown} it makes {list(result.shape)}, but its shape rule says {[_SAMPLES, *declared]}",
        )
    if not entry.value.random and not torch.allclose(result[:1], alone, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise _wrong(layer, entry, "what it makes of a sample depends on the other samples of the batch")


def _wrong(layer: schema.Registered, entry: plugins.Entry, why: str) -> CompileError:
    message = f"`{layer.name}`: the layer `{layer.layer}` is not what it declares: {why}"
    return CompileError("E056", message, span=layer.span, notes=(f"it is registered by {entry.origin}",))
