"""`bcgraph new`: a file to begin with, for a data set and a backbone."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.output import emit, say
from bcgraph.errors import RunError, nearest

if TYPE_CHECKING:
    from bcgraph.data.declaration import Declaration

STEPS = 4
"""Steps of a network for still images."""

PREFERRED = ("tiny", "rsnn", "conv1d")
"""Backbones that are proposed, the first that takes the input."""

SIZE = 32
"""Height and width of images whose data set has no size of its own."""


def new_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write, or - to print it.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="The data set; without it, the command asks.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="NAME", help="The backbone; without it, the command asks.")
    ] = None,
    feedback: Annotated[bool, typer.Option(help="Include a backward connection.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a network for a data set, ready to check, train and search."""
    from bcgraph import dsl, files

    path = Path(file)
    if file != "-" and path.exists() and not force:
        raise RunError("E084", f"`{file}` is there already", hint="choose another name, or replace it with --force")
    text = _text(_Answers(path, data, backbone, feedback))
    dsl.parse(text, file="<new>")
    if file == "-":
        emit(text, exact=True)
        return
    files.write_text(path, text)
    say(f"{file}: written; next: bcgraph check {file}, then bcgraph train {file} --out run")


class _Answers:
    """The choices, each from its option or from a question."""

    def __init__(self, path: Path, data: str | None, backbone: str | None, feedback: bool) -> None:
        from bcgraph.data import declaration
        from bcgraph.dsl.elaboration.library import backbone_names

        self.name = re.sub(r"\W+", "_", path.stem if path.name != "-" else "net", flags=re.ASCII).strip("_") or "net"
        if self.name[0].isdigit():
            self.name = f"net_{self.name}"
        self.data = _chosen("data set", data, declaration.names(), "digits", "E080")
        declared = declaration.find(self.data)
        assert declared is not None
        self.input = _input(self.data, declared)
        self.backbone = self._backbone(backbone, backbone_names())
        self.feedback = feedback

    def _backbone(self, given: str | None, standard: tuple[str, ...]) -> str:
        """The backbone: one that takes the data set's input. Raises RunError."""
        if given in standard and not _fits(str(given), self):
            hint = f"the input is {self.input.written}; leave out --backbone for one that fits"
            raise RunError("E050", f"the backbone `{given}` does not take `{self.data}`", hint=hint)
        if given is not None:
            return _chosen("backbone", given, standard, "", "E031")
        preferred = next((name for name in (*PREFERRED, *standard) if _fits(name, self)), None)
        if preferred is None:
            hint = "start from `bcgraph new --data digits`"
            raise RunError("E080", f"no standard backbone takes `{self.data}`", hint=hint)
        usable = tuple(name for name in standard if _fits(name, self)) if _asks() else (preferred,)
        return _chosen("backbone", None, usable, preferred, "E031")

    @property
    def text(self) -> str:
        """The network alone, without a connection."""
        return self.with_backbone(self.backbone, "")

    def with_backbone(self, backbone: str, more: str) -> str:
        """The file with a backbone."""
        lines = [
            "bcg 1",
            "",
            f"network {self.name} {{",
            f"  input    = {self.input.written}",
            f"  steps    = {self.input.steps}",
            *(["  readout  = last"] if self.input.sequence else []),
            f"  backbone = {backbone}(classes={self.input.classes})",
            *(["", more] if more else []),
            "}",
            "",
            f"data = {self.data}(batch=64)",
            "",
            "train {",
            "  epochs = 20",
            *(["  loss   = last"] if self.input.sequence else []),
            "}",
            "",
            "search {",
            "  max_backward = 2",
            "  init     { pool = 100; keep = 10 }",
            "  supernet { epochs = 10 }",
            "  evolve   { iterations = 4; top = 5; population = 10; offspring = 5 }",
            "}",
        ]
        return "\n".join(lines) + "\n"


def _text(answers: _Answers) -> str:
    """The file, with a connection from the last port to itself where one is asked for."""
    from bcgraph import dsl

    spec = dsl.parse(answers.text, file="<new>")
    last = spec.ports[-1] if spec.ports else None
    more = (
        f"  backward {last} -> {last}   # the spikes of a step, read in the next" if last and answers.feedback else ""
    )
    return answers.with_backbone(answers.backbone, more)


@dataclass(frozen=True)
class _Input:
    """What a network for a data set begins with."""

    written: str
    steps: int
    sequence: bool
    classes: int


def _input(name: str, declared: Declaration) -> _Input:
    from bcgraph.schema import DataSpec

    forms = declared.forms_of(DataSpec(name=name))
    form = forms[0] if forms else None
    if form is None:
        return _Input(f"image(3, {SIZE}, {SIZE})", STEPS, False, declared.classes or 10)
    sizes = [SIZE if size is None else size for size in form.sizes]
    written = f"{form.kind}({', '.join(map(str, sizes))})"
    sequence = form.kind == "sequence"
    return _Input(written, form.steps or (10 if sequence else STEPS), sequence, declared.classes or 10)


def _fits(backbone: str, answers: _Answers) -> bool:
    """Whether a backbone takes the data set's input."""
    from bcgraph import dsl
    from bcgraph.errors import SpecError

    try:
        dsl.parse(answers.with_backbone(backbone, ""), file="<new>")
    except SpecError:
        return False
    return True


def _chosen(what: str, given: str | None, known: tuple[str, ...], default: str, code: str) -> str:
    """The choice: what was given, what is answered at a terminal, or the default. Raises RunError."""
    found = given
    if found is None:
        found = typer.prompt(f"Which {what}? ({', '.join(known)})", default=default, err=True) if _asks() else default
    if found not in known:
        hint = nearest(found, known) or f"known: {', '.join(known)}"
        raise RunError(code, f"there is no {what} `{found}`", hint=hint)
    return found


def _asks() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin is not None and sys.stdin.isatty()
