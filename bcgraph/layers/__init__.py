"""Layers of the language that are declared in one place each: arguments, shape, cost, module, and what targets write.

`STANDARD` is the table of all of them. A declaration is read without torch; modules are imported when they are built.
"""

from __future__ import annotations

from collections.abc import Mapping

from bcgraph.layers.attention import ATTENTION
from bcgraph.layers.declaration import Standard
from bcgraph.layers.elementwise import ELEMENTWISE
from bcgraph.layers.norms import NORMS
from bcgraph.layers.places import PLACES

__all__ = ["STANDARD", "Standard"]

STANDARD: Mapping[str, Standard] = {**PLACES, **NORMS, **ELEMENTWISE, **ATTENTION}
