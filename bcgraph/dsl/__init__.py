"""The language: grammar, syntax tree, elaboration, printers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bcgraph import lazy
from bcgraph.dsl.parser import parse_file
from bcgraph.dsl.source import Reporter, Source, Stop, check_text, read
from bcgraph.names import DEFAULT_NEURON

# Formatting needs no specification, and what makes one takes longer to load than most texts to format.
if TYPE_CHECKING:
    from bcgraph.dsl.fmt import format_text
    from bcgraph.dsl.printer import format_spec
    from bcgraph.schema import NetworkSpec, Neuron
else:
    __getattr__ = lazy.attach(
        "bcgraph.dsl",
        {"format_spec": "bcgraph.dsl.printer:format_spec", "format_text": "bcgraph.dsl.fmt:format_text"},
    )

__all__ = ["format_spec", "format_text", "load", "neuron", "parse"]


@cache
def neuron(call: str = DEFAULT_NEURON) -> Neuron:
    """The neuron that a call of the standard library means, `plif(tau=3.0)`. Raises SpecError."""
    from bcgraph.dsl.elaborate import called_neuron

    text = f"neuron = {call}"
    source = Source.of(text, "<neuron>")
    reporter = Reporter({"<neuron>": source})
    found = None
    with contextlib.suppress(Stop):
        found = called_neuron(parse_file(source, reporter), reporter)
    reporter.check()
    assert found is not None
    return found


def parse(text: str, *, file: str = "<text>", base: Path | None = None, settings: Sequence[str] = ()) -> NetworkSpec:
    """The specification that a text describes.

    `file` is the name that diagnostics show; imports are relative to `base`, or to the folder of `file` when that is a
    file. `settings`, such as `train.epochs=10`, take the place of what the text says.
    Raises SpecError with everything that is wrong with the text and with them.
    """
    check_text(text, file)
    if base is not None or file.startswith("<") or "\0" in file:
        return _specification(text, file, None, base, settings)
    return _specification(text, file, Path(file), Path(file).parent, settings)


def load(path: str | os.PathLike[str], *, settings: Sequence[str] = ()) -> NetworkSpec:
    """The specification in a file, with `settings` as in `parse`. Raises SpecError with everything that is wrong."""
    text = read(path)
    name = os.fspath(path)
    check_text(text, name)
    return _specification(text, name, Path(path), Path(path).parent, settings)


def _specification(text: str, file: str, path: Path | None, base: Path | None, settings: Sequence[str]) -> NetworkSpec:
    from bcgraph.dsl.elaborate import elaborate
    from bcgraph.dsl.elaboration.vocabulary.overrides import override

    source = Source.of(text, file)
    reporter = Reporter({file: source})
    spec = None
    with contextlib.suppress(Stop):
        parsed = parse_file(source, reporter)
        spec = elaborate(override(parsed, settings, reporter) if settings else parsed, file, reporter, path, base)
    reporter.check()
    assert spec is not None
    return spec
