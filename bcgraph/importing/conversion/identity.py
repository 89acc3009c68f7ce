"""Rules of what changes no value of a trained network, and of what the language does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from bcgraph.importing.conversion.converter import Converter, ModuleRule
from bcgraph.importing.layers import RefusedError, View
from bcgraph.importing.record import Ref


def same(c: Converter, x: Ref, *_: Any, **__: Any) -> View:
    """What changes no value."""
    return c.view(x)


def _same_module(c: Converter, m: Any, x: Ref) -> View:
    return c.view(x)


def _dropout(c: Converter, x: Ref, p: float = 0.5, *_: Any, **__: Any) -> View:
    view = c.view(x)
    return c.unnamed("dropout", view, c.shape(view), view.axes, p=float(p)) if 0 < p < 1 else view


def _dropout_module(c: Converter, m: Any, x: Ref) -> View:
    view = c.view(x)
    if not 0 < float(m.p) < 1:
        return view
    return c.unnamed("dropout", view, c.shape(view), view.axes, p=float(m.p))


def _left_out(c: Converter, m: Any, x: Ref) -> View:
    c.notes.append(f"`{c.call.path}` ({type(m).__name__}) is left out: it only acts in training")
    return c.view(x)


def last_softmax(c: Converter, x: Ref, *_: Any, **__: Any) -> View:
    """A softmax that ends the network is the loss's."""
    if c.recording.output != c.call.results[0]:
        raise RefusedError("a softmax inside the network cannot be said", "attention without one can: see `attention`")
    c.notes.append("the softmax at the end is left out: losses have their own")
    c.recording.output = x
    return c.view(x)


def _softmax(c: Converter, m: Any, x: Ref) -> View:
    return last_softmax(c, x)


def _refused(what: str) -> Callable[[Converter, Any, Ref], View]:
    def rule(c: Converter, m: Any, x: Ref) -> View:
        raise RefusedError(f"{what} cannot be said")

    return rule


MODULES: Mapping[type, ModuleRule] = {
    nn.Identity: _same_module,
    nn.Dropout: _dropout_module,
    nn.Dropout1d: _left_out,
    nn.Dropout2d: _left_out,
    nn.Softmax: _softmax,
    nn.LogSoftmax: _softmax,
    nn.MultiheadAttention: _refused("attention with a softmax"),
    nn.RNNBase: _refused("a recurrent layer of torch"),
    nn.Embedding: _refused("a table of embeddings"),
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("contiguous", "clone", "detach", "float", "double", "to", "type", "type_as"), same),
    **dict.fromkeys(("alpha_dropout", "feature_dropout", "dropout2d", "feature_alpha_dropout"), same),
    "dropout": _dropout,
    **dict.fromkeys(("softmax", "log_softmax"), last_softmax),
}
