"""Targets: a program as a module or as a file.

A target for files is a package here. Its `ENDING` is that of its files, and `write` of its module `file` makes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from bcgraph.lazy import modules


def _found() -> Iterator[tuple[str, str]]:
    for name in modules(__name__):
        # The package alone is light: its modules import onnx, or torch.
        ending = None if name == "export" else getattr(import_module(f"{__name__}.{name}"), "ENDING", None)
        if ending is not None:
            yield ending, f"{__name__}.{name}.file"


TARGETS: Mapping[str, str] = dict(_found())
"""The ending of a file, and the module whose `write` makes it, imported when it is asked for."""
