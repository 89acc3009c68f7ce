"""Export: a specification with weights becomes a file, proved before it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy

if TYPE_CHECKING:
    from bcgraph.compiler.export.request import ExportReport
    from bcgraph.compiler.export.write import export

__all__ = ["ExportReport", "export"]

__getattr__ = lazy.attach(
    __name__,
    {
        "ExportReport": "bcgraph.compiler.export.request:ExportReport",
        "export": "bcgraph.compiler.export.write:export",
    },
)
