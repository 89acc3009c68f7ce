"""What a file says of itself beyond what is needed to run it: where its weights come from, and whose they are.

Read and written without torch. Text from people and from foreign files is one line of characters that can be printed;
what cannot is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Annotated

from pydantic import Field, TypeAdapter

from bcgraph import __version__, foreign, origins, run_files, tensorfiles

SPLITS = ("test", "validation")

QUANTIZED = "before the weights were put into 8 bits"
CUT = "before connections were left out or shortened"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of samples of one part of a data set that the float32 weights predict right, from 0 to 1.

    `epoch` is the one after which it was measured. `chosen` says that this epoch was chosen for this accuracy, which is
    then too good.
    """

    value: Annotated[float, Field(strict=True, ge=0, le=1)]
    data: Annotated[str, Field(max_length=200)]
    split: Annotated[str, Field(max_length=200)]
    epoch: Annotated[int, Field(strict=True, ge=1)] | None = None
    chosen: bool = False

    def __str__(self) -> str:
        """`0.9765 on the test part of digits, after epoch 12`."""
        after = "" if self.epoch is None else f", after epoch {self.epoch}"
        chosen = ", by which it was chosen" if self.chosen else ""
        return f"{self.value:.4f} on the {escaped(self.split)} part of {escaped(self.data)}{after}{chosen}"


_ACCURACY: TypeAdapter[Accuracy] = TypeAdapter(Accuracy)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where weights come from: `version` is that of the bcgraph that writes the file, `seed` that of the run.

    `run` is the digest of the run, by which its own files are told from those of another one (`bcgraph.run_files`).
    `weights` is `inherited` (from a supernet), `drawn` (never trained), or empty. `license` and `author` are free text.
    `changed` says what became of the weights after the accuracy was measured; files keep that in entries of their own.
    """

    version: str = __version__
    seed: int | None = None
    weights: str = ""
    accuracy: Accuracy | None = None
    license: str = ""
    author: str = ""
    changed: str = ""
    run: str = ""

    def metadata(self) -> dict[str, str]:
        """The entries that a file keeps, by their names; what is not known has none."""
        accuracy = None if self.accuracy is None else _ACCURACY.dump_json(self.accuracy, exclude_none=True).decode()
        found = {
            "version": self.version,
            "seed": None if self.seed is None else str(self.seed),
            run_files.DIGEST: self.run,
            "weights": self.weights,
            "accuracy": accuracy,
            "license": escaped(self.license),
            "author": escaped(self.author),
        }
        return {f"bcgraph.{name}": value for name, value in found.items() if value}

    @property
    def measured(self) -> str:
        """The accuracy, what it was measured on, and what was changed since; empty where there is none."""
        if self.accuracy is None:
            return ""
        return f"{self.accuracy}, {self.changed}" if self.changed else str(self.accuracy)

    def lines(self) -> list[str]:
        """The same for people, a line each."""
        known = (
            ("written by", f"bcgraph {escaped(self.version)}" if self.version else ""),
            ("weights", escaped(self.weights)),
            ("accuracy", self.measured),
            ("seed", "" if self.seed is None else str(self.seed)),
            ("license", escaped(self.license)),
            ("author", escaped(self.author)),
        )
        return [f"{name}: {value}" for name, value in known if value]


def of_weights(path: str | PathLike[str], data: str | None = None) -> Provenance:
    """What a weights file knows of its run. `data` is the data set where the file does not name it, as old ones do not.

    An accuracy of which nobody knows what it was measured on is left out. Raises WeightsError (E082).
    """
    stored = tensorfiles.read(path)[1].get("metadata")
    found = {k: v for k, v in stored.items() if isinstance(v, str)} if isinstance(stored, dict) else {}
    weights = {origins.SUPERNET: "inherited", origins.INITIALIZATION: "drawn"}.get(found.get("origin", ""), "")
    run = found.get(run_files.DIGEST, "")
    return Provenance(seed=_whole(found.get("seed")), weights=weights, accuracy=_accuracy(found, data), run=run)


def of_metadata(found: Mapping[str, str]) -> Provenance:
    """What the metadata of an exported file say; an entry that is damaged is left out."""
    try:
        accuracy = foreign.from_json(found["bcgraph.accuracy"], _ACCURACY)
    except (KeyError, foreign.UnreadableError):
        accuracy = None
    words = {name: found.get(f"bcgraph.{name}", "") for name in ("version", "weights", "license", "author")}
    changed = QUANTIZED if found.get("bcgraph.precision") == "int8" else ""
    changed = changed or (CUT if found.get("bcgraph.losses", "[]") != "[]" else "")
    run = found.get(f"bcgraph.{run_files.DIGEST}", "")
    return Provenance(seed=_whole(found.get("bcgraph.seed")), accuracy=accuracy, changed=changed, run=run, **words)


def settled(provenance: Provenance, *, inherited: bool, drawn: int | None) -> Provenance:
    """With what an export knows of its weights itself: that they are inherited, or drawn from a seed."""
    if drawn is not None:
        return replace(provenance, seed=drawn, weights="drawn", accuracy=None, run="")
    return replace(provenance, weights="inherited") if inherited else provenance


def escaped(text: str) -> str:
    """`text` in one line: escapes in the place of characters that cannot be printed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _accuracy(found: Mapping[str, str], data: str | None) -> Accuracy | None:
    data = found.get("data", data)
    split = next((each for each in SPLITS if f"{each}_accuracy" in found), None)
    if split is None or data is None:
        return None
    try:
        value = float(found[f"{split}_accuracy"])
    except ValueError:
        return None
    if not (math.isfinite(value) and 0 <= value <= 1):
        return None
    return Accuracy(value, data, split, _whole(found.get("epoch")) or None, found.get("chosen_on") == split)


def _whole(text: str | None) -> int | None:
    """A number that is not negative; None for anything else."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else None
