"""Arguments and options that several commands share, and the files, streams and run directories that they name."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph import foreign, run_files
from bcgraph.cli.output import say
from bcgraph.errors import RunError, WeightsError

if TYPE_CHECKING:
    from bcgraph.schema import NetworkSpec, Place


class Switch(StrEnum):
    """The value of an option that is on or off."""

    ON = "on"
    OFF = "off"


class Captures(StrEnum):
    """Whether calls on a GPU are captured (`bcgraph.nn.graphs.graphed.Graphs`)."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


SpecArgument = Annotated[str, typer.Argument(metavar="SPEC", help="A .bcg file, or - for standard input.")]
RunArgument = Annotated[
    str, typer.Argument(metavar="SPEC_OR_RUN", help="A .bcg file, - for standard input, or the directory of a run.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="NAME=VALUE", help="A setting in place of the file's: steps=6, train.epochs=10."),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The directory of the run.")]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        envvar="BCGRAPH_STORAGE",
        help="An Optuna storage for the study, in place of a file in DIR. Its password is not kept.",
    ),
]
AcceleratorOption = Annotated[
    str, typer.Option("--accelerator", "--device", metavar="NAME", help="cpu, cuda, mps or auto.")
]
GraphsOption = Annotated[
    Captures,
    typer.Option(
        "--graphs", help="CUDA graphs on a GPU: where they are exact (auto), always or an error (on), or never (off)."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="The seed of all randomness.")]
InitsOption = Annotated[int, typer.Option("--inits", min=1, metavar="N", help="Initializations to average over.")]
AtOnceOption = Annotated[
    str,
    typer.Option(
        "--candidates-at-once",
        metavar="K",
        help="Candidates evaluated in one pass: a number, or auto (1 on the CPU, as many as fit on a GPU).",
    ),
]

ScoreDtypeOption = Annotated[
    str,
    typer.Option(
        "--score-dtype",
        metavar="TYPE",
        help="Data type of the scored networks: float32, float64, bfloat16, mixed or int16.",
    ),
]

STDIN = "<stdin>"

MAX_LINE = 64 * 1024 * 1024
"""Bytes of a line that is read: a frame of 2,000 x 2,000 numbers."""

# Endings of files that hold a network and not its text; `bcgraph.exported` reads them.
_EXPORTED = frozenset((".onnx", ".nir", ".pt2"))


@dataclass(frozen=True)
class Source:
    """A specification and, when it comes from a run, the weights that lie with it.

    `of_run` says that nobody has looked yet whether they are the run's own, `changed` that settings were given.
    """

    spec: NetworkSpec
    weights: Path | None = None
    of_run: bool = False
    changed: bool = False

    def using(self, asked: Path | None = None) -> Source:
        """With the weights that are asked for, else with its own.

        Raises RunError (E085) where those in the directory of a run are of another run or network.
        """
        if asked is not None:
            return Source(self.spec, asked)
        if self.weights is None or not self.of_run:
            return self
        run_files.check_weights(self.weights, None if self.changed else self.spec.fingerprint())
        return Source(self.spec, self.weights)

    def scales(self) -> dict[Place, float]:
        """The learned scale of each connection, where there are weights. Raises WeightsError (E082)."""
        from bcgraph.scales import learned_scales

        return {} if self.weights is None else learned_scales(self.weights, self.spec)

    @property
    def inherited(self) -> bool:
        """Whether the weights are those of a supernet. Raises WeightsError (E082)."""
        from bcgraph import origins

        return self.weights is not None and origins.inherited(self.weights)

    def warn(self) -> None:
        """Say on standard error that weights are inherited, where they are, and what to type to train the network."""
        if self.inherited:
            assert self.weights is not None
            say(f"note: {inherited(self.weights)}")


def inherited(weights: Path) -> str:
    """What is said of inherited weights in the directory of a search."""
    from bcgraph.origins import INHERITED

    return (
        f"{INHERITED}: `{weights}` has those of the supernet, and the network was never trained on its own; "
        f"`{to_train(weights.parent)}` trains it"
    )


def to_train(directory: Path) -> str:
    """The command that trains the network that a search in a directory has found."""
    return shlex.join(["bcgraph", "train", str(directory), "--out", f"{directory}-trained"])


def read_spec(argument: str, settings: Sequence[str] = ()) -> NetworkSpec:
    """The specification in a file or on standard input (`-`), with `settings` in the place of its own.

    Raises SpecError with all that is wrong with it.
    """
    from bcgraph import dsl

    if argument == "-":
        return dsl.parse(read_text("-"), file=STDIN, base=Path.cwd(), settings=settings)
    _check_is_text(argument)
    return dsl.load(argument, settings=settings)


def _check_is_text(argument: str) -> None:
    """Raise SpecError (E001) for an exported file, which is no text of the language."""
    if Path(argument).suffix not in _EXPORTED:
        return
    from bcgraph.errors import SpecError

    if not foreign.is_file(argument):
        return

    raise SpecError(
        "E001",
        f"`{argument}` is an exported network, not a specification",
        hint=f"`bcgraph show {argument}` prints the specification that it was made of",
    )


def read_source(argument: str, settings: Sequence[str] = ()) -> Source:
    """Like `read_spec`, and for the directory of a run its specification with the weights in it, if it has any yet."""
    directory = Path(argument)
    if argument == "-" or not directory.is_dir():
        return Source(read_spec(argument, settings))
    if (directory / "run.json").is_file() and not (directory / "best.bcg").is_file():
        raise RunError(
            "E085",
            f"the search in `{argument}` is not finished, and so has no result",
            hint="run it again to resume it, or see its results so far with `bcgraph report`",
        )
    for spec_name, weights_name in run_files.PAIRS:
        if (directory / spec_name).is_file():
            weights = directory / weights_name
            found = read_spec(str(directory / spec_name), settings)
            return Source(found, weights if weights.is_file() else None, of_run=True, changed=bool(settings))
    raise RunError(
        "E085",
        f"`{argument}` is not the directory of a run",
        hint="it holds neither best.bcg nor spec.bcg; give a .bcg file, or the --out of a search or of a training run",
    )


def read_text(argument: str) -> str:
    """The text of a file or of standard input (`-`). Raises SpecError when it is too large or no text."""
    from bcgraph.dsl.source import read, read_stream
    from bcgraph.errors import SpecError

    if argument != "-":
        return read(argument)
    try:
        return read_stream(sys.stdin.buffer, STDIN)
    except OSError as error:
        raise SpecError("E001", f"cannot read {STDIN}: {(error.strerror or str(error)).lower()}") from None


def stdin_lines() -> Iterator[str]:
    """The lines of standard input. Raises RunError (E090) when it is closed, or a line is too long or no text."""
    try:
        stream = getattr(sys.stdin, "buffer", None)
    except OSError as error:
        raise RunError("E090", f"standard input cannot be read: {(error.strerror or str(error)).lower()}") from None
    if stream is None:
        yield from sys.stdin
        return
    number = 0
    while True:
        try:
            line = stream.readline(MAX_LINE + 1)
            text = line.decode("utf-8-sig" if number == 0 else "utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError("E090", f"line {number + 1} of standard input cannot be read: {error}") from None
        if len(line) > MAX_LINE:
            raise RunError("E090", f"line {number + 1} of standard input is longer than {MAX_LINE:,} bytes")
        if not line:
            return
        number += 1
        yield text


def candidates_at_once(text: str) -> int | None:
    """The number that `--candidates-at-once` gives; None for `auto`."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise typer.BadParameter(f"`{text}` is neither a number nor auto", param_hint="--candidates-at-once")
    return int(text)


def needed_weights(source: Source) -> Path:
    """The weights of a source. Raises WeightsError (E082) when there are none."""
    if source.weights is None:
        raise WeightsError(
            "E082",
            "there are no weights to use",
            hint="name a file with --weights, or give the directory of a finished run",
        )
    return source.weights
