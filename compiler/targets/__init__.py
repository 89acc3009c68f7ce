"""Targets, one a file: program in, module or file out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcgraph.compiler.targets.common import ExportReport, Normalization
    from bcgraph.compiler.targets.write import export

__all__ = ["ExportReport", "Normalization", "export"]


def __getattr__(name: str) -> Any:
    if name == "export":
        from bcgraph.compiler.targets.write import export

        return export
    if name in __all__:
        from bcgraph.compiler.targets import common

        return getattr(common, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
