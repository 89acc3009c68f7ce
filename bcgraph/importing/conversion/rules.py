"""Which module and which function has which rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from bcgraph.importing import neurons
from bcgraph.importing.conversion import arithmetic, axes, convolution, identity, norms, pooling
from bcgraph.importing.conversion.converter import Converter, ModuleRule
from bcgraph.importing.layers import RefusedError
from bcgraph.importing.record import Recording

MODULES: Mapping[type, ModuleRule] = {
    **convolution.MODULES,
    **norms.MODULES,
    **pooling.MODULES,
    **axes.MODULES,
    **identity.MODULES,
}
"""Modules that are recorded whole; the first that fits has the rule."""

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **convolution.FUNCTIONS,
    **norms.FUNCTIONS,
    **pooling.FUNCTIONS,
    **axes.FUNCTIONS,
    **arithmetic.FUNCTIONS,
    **identity.FUNCTIONS,
}
"""Functions of torch and methods of tensors, by name."""


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is recorded whole: a layer of torch as torch runs it, or a neuron of a peer."""
    for kind in MODULES:
        if isinstance(module, kind):
            own = type(module).__module__.split(".")[0]
            return type(module).forward is getattr(kind, "forward", None) or own in ("torch", "spikingjelly")
    try:
        return neurons.of_module(module) is not None
    except RefusedError:
        return True


def convert(module: nn.Module, recording: Recording) -> Converter:
    """The layers of a recording of `module`, and what is refused."""
    converter = Converter(module, recording, MODULES, FUNCTIONS)
    converter.run()
    return converter
