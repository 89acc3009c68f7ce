"""Targets: a program as a module or as a file."""

from __future__ import annotations

from collections.abc import Mapping

# The ending of a file -> the module whose `write` makes it, imported when it is asked for.
TARGETS: Mapping[str, str] = {
    ".nir": "bcgraph.compiler.targets.nir.file",
    ".onnx": "bcgraph.compiler.targets.onnx.file",
    ".pt2": "bcgraph.compiler.targets.pt2",
    ".py": "bcgraph.compiler.targets.python.emitter",
}
