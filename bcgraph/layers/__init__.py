"""Layers of the language that are declared in one place each: arguments, shape, cost, module, and what targets write.

`STANDARD` is the table of all of them: what the modules of `bcgraph.layers.standard` declare. It is read without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from bcgraph.layers.declaration import Standard
from bcgraph.lazy import modules

__all__ = ["STANDARD", "Standard"]

STANDARD: Mapping[str, Standard] = {
    name: layer
    for module in modules("bcgraph", "layers/standard")
    for name, layer in import_module(f"bcgraph.layers.standard.{module}").LAYERS.items()
}
