"""The language: grammar, syntax tree, elaboration, printers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bcgraph.dsl.elaborate import elaborate
from bcgraph.dsl.fmt import format_text
from bcgraph.dsl.parser import parse_file
from bcgraph.dsl.printer import format_spec
from bcgraph.dsl.source import Reporter, Source, Stop, check_text, read
from bcgraph.schema import NetworkSpec

__all__ = ["format_spec", "format_text", "load", "parse"]


def parse(text: str, *, file: str = "<text>", base: Path | None = None) -> NetworkSpec:
    """The specification that a text describes.

    `file` is the name that diagnostics show; imports are relative to `base`, or to the folder of `file` when that is a
    file. Raises SpecError with everything that is wrong with the text.
    """
    check_text(text, file)
    if base is not None or file.startswith("<") or "\0" in file:
        return _specification(text, file, None, base)
    return _specification(text, file, Path(file), Path(file).parent)


def load(path: str | os.PathLike[str]) -> NetworkSpec:
    """The specification in a file. Raises SpecError with everything that is wrong with it."""
    text = read(path)
    name = os.fspath(path)
    check_text(text, name)
    return _specification(text, name, Path(path), Path(path).parent)


def _specification(text: str, file: str, path: Path | None, base: Path | None) -> NetworkSpec:
    source = Source.of(text, file)
    reporter = Reporter({file: source})
    spec = None
    with contextlib.suppress(Stop):
        spec = elaborate(parse_file(source, reporter), file, reporter, path, base)
    reporter.check()
    assert spec is not None
    return spec
