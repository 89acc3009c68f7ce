"""What an exported file says of itself in its metadata, and what it takes for an input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from bcgraph import foreign, run_files, seals
from bcgraph.errors import RunError
from bcgraph.normalization import Normalization
from bcgraph.readout import READOUTS, read_out
from bcgraph.schema import InputSpec

Floats = NDArray[np.floating[Any]]

FORMS = ("unrolled", "step", "scan", "nir")

_INPUT: TypeAdapter[InputSpec] = TypeAdapter(InputSpec)


@dataclass(frozen=True)
class Signature:
    """What an exported file says of itself, in its metadata."""

    form: str
    steps: int
    readout: str
    input: InputSpec
    states: tuple[tuple[str, str, tuple[int, ...]], ...]
    """Of each state the name of the input, the name of the output that is its next value, and the shape of one
    sample."""
    classes: tuple[str, ...] = ()
    normalization: Normalization | None = None
    inherited: bool = False
    """Whether the weights are those of a supernet, with which the network was never trained on its own."""

    def checked(self, inputs: Floats) -> NDArray[np.float32]:
        """`inputs` in float32. Raises RunError (E090) when they are not finite numbers or have another shape."""
        given = as_array(inputs)
        if given.dtype.kind not in "fiub":
            raise RunError("E090", f"the network takes numbers, but the input is of type {given.dtype}")
        values = float32(given)
        sample = self.input.shape
        rank = len(sample)
        sequence = self.input.kind == "sequence"
        # A scan takes any number of frames.
        steps = values.shape[0] if self.form == "scan" and values.ndim == rank + 2 else self.steps
        length = "T" if self.form == "scan" else str(steps)
        wanted = (f"[{length}, N, " if sequence else "[N, ") + ", ".join(map(str, sample)) + "]"
        fits = values.ndim == rank + 1 + sequence and values.shape[-rank:] == sample
        if not fits or (sequence and values.shape[0] != steps):
            raise RunError("E090", f"the network takes {wanted}, but the input is {list(values.shape)}")
        check_finite(values)
        return values


def read_signature(path: Path, found: Mapping[str, str]) -> Signature:
    """The signature in the metadata of a file.

    Raises RunError: E087 when they are damaged, or not those of a file that bcgraph has written, E085 for the file of
    another search in the directory of one.
    """
    seal = found.get(f"bcgraph.{seals.NAME}")
    if seal is not None and not seals.is_seal(seal):
        raise changed(path)
    if "bcgraph.form" not in found:
        raise RunError(
            "E087",
            f"`{path}` was not written by bcgraph",
            hint="`bcgraph compile SPEC_OR_RUN -o net.onnx` writes a file that can be run here",
        )
    run_files.check_exported(path, found)
    normalization = found.get("bcgraph.normalization")
    try:
        signature = Signature(
            form=found["bcgraph.form"],
            steps=int(found["bcgraph.steps"]),
            readout=found["bcgraph.readout"],
            input=foreign.from_json(found["bcgraph.input"], _INPUT),
            states=tuple(
                (s.input, s.output, s.shape) for s in foreign.from_json(found.get("bcgraph.states", "[]"), _STATES)
            ),
            classes=foreign.from_json(found.get("bcgraph.classes", "[]"), _CLASSES),
            normalization=None if normalization is None else Normalization.from_json(normalization),
            inherited=found.get("bcgraph.weights") == "inherited",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError("E087", f"`{path}` has damaged metadata", notes=(first_line(error),)) from None
    if signature.form not in FORMS or signature.readout not in READOUTS or signature.steps < 1:
        raise RunError("E087", f"`{path}` is of a kind that this version of bcgraph does not know")
    if signature.normalization is not None and len(signature.normalization.mean) != signature.input.channels:
        raise RunError("E087", f"`{path}` has damaged metadata", notes=("a normalization of other channels",))
    return signature


@dataclass(frozen=True)
class _State:
    """A state as the metadata describe it."""

    input: str
    output: str
    shape: tuple[Annotated[int, Field(strict=True, ge=1)], ...]


_STATES: TypeAdapter[tuple[_State, ...]] = TypeAdapter(tuple[_State, ...])
_CLASSES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


def changed(path: Path) -> RunError:
    """The error for a file that is not what bcgraph has written (E087)."""
    return RunError(
        "E087",
        f"`{path}` is damaged: its content is not what was written",
        hint=f"compile it again; if a tool has changed it on purpose, have it remove `bcgraph.{seals.NAME}` as well",
    )


def as_array(values: Any) -> NDArray[Any]:
    """`values` as an array. Raises RunError (E090) for what cannot be one: lists of several lengths, for example."""
    try:
        return np.asarray(values)
    # torch raises the first two, for a tensor with a gradient and for one in bfloat16.
    except (RuntimeError, TypeError, ValueError) as error:
        raise RunError("E090", f"the input cannot be made an array: {first_line(error)}") from error


def float32(values: Floats) -> NDArray[np.float32]:
    """`values` in float32; what is too large becomes infinite, which `check_finite` refuses."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def check_finite(values: NDArray[np.float32]) -> None:
    """Raise RunError (E090) for values that are not finite in float32."""
    if not np.isfinite(values).all():
        raise RunError("E090", "the input holds values that are not finite", hint="replace nan and inf before")


def classes_of(outputs: Floats, readout: str, path: Path) -> NDArray[np.int64]:
    """The predicted class of each sample, `[N]`, from O `[T, N, classes]`. Raises RunError (E087) as `largest`."""
    return largest(read_out(outputs, readout), path)


def largest(values: Floats, path: Path) -> NDArray[np.int64]:
    """The class with the largest of the values `[N, classes]`. Raises RunError (E087) where a network computes nan."""
    wrong = int(np.isnan(values).any(axis=-1).sum())
    if wrong:
        raise RunError(
            "E087",
            f"`{path}`: the outputs of {wrong} of {len(values)} samples are nan, so there is nothing to predict",
            hint="a neuron divides by zero, or its values grow without bound",
        )
    return np.asarray(values.argmax(-1), dtype=np.int64)


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
