"""Data sets and how they are split, batched and augmented. Only what deals in tensors imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy
from bcgraph.data.catalog import Arrays, arrays, load, names, read
from bcgraph.data.sources import Part

if TYPE_CHECKING:
    from bcgraph.data.split import Split, Splits

__all__ = ["Arrays", "Part", "Split", "Splits", "arrays", "load", "names", "read"]

__getattr__ = lazy.attach(
    __name__,
    {
        "Split": "bcgraph.data.split:Split",
        "Splits": "bcgraph.data.split:Splits",
    },
)
