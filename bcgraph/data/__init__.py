"""Data sets and how they are split, batched and augmented. Only what deals in tensors imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy

if TYPE_CHECKING:
    from bcgraph.data.catalog import Arrays, arrays, load, read
    from bcgraph.data.declaration import names
    from bcgraph.data.sources import Part
    from bcgraph.data.split import Split, Splits
    from bcgraph.data.torch_dataset import of

__all__ = ["Arrays", "Part", "Split", "Splits", "arrays", "load", "names", "of", "read"]

__getattr__ = lazy.attach(
    __name__,
    {
        "Arrays": "bcgraph.data.catalog:Arrays",
        "Part": "bcgraph.data.sources:Part",
        "Split": "bcgraph.data.split:Split",
        "Splits": "bcgraph.data.split:Splits",
        "arrays": "bcgraph.data.catalog:arrays",
        "load": "bcgraph.data.catalog:load",
        "names": "bcgraph.data.declaration:names",
        "of": "bcgraph.data.torch_dataset:of",
        "read": "bcgraph.data.catalog:read",
    },
)
