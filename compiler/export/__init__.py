"""Export: a specification with weights becomes a file, proved before it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcgraph.compiler.export.request import ExportReport, Normalization
    from bcgraph.compiler.export.write import export

__all__ = ["ExportReport", "Normalization", "export"]


def __getattr__(name: str) -> Any:
    if name == "export":
        from bcgraph.compiler.export.write import export

        return export
    if name in __all__:
        from bcgraph.compiler.export import request

        return getattr(request, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
