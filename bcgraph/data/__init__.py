"""Data sets and how they are split, batched and augmented. Only what deals in tensors imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bcgraph.data.catalog import Arrays, arrays, load, names, read
from bcgraph.data.sources import Part

if TYPE_CHECKING:
    from bcgraph.data.split import Split, Splits

__all__ = ["Arrays", "Part", "Split", "Splits", "arrays", "load", "names", "read"]


def __getattr__(name: str) -> Any:
    if name in ("Split", "Splits"):
        from bcgraph.data import split

        return getattr(split, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
