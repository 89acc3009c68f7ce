"""The directory of a run: to which search it belongs, and whether this search may use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

import bcgraph
from bcgraph import dsl, files, foreign, keys
from bcgraph.errors import RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search.options import LATER
from bcgraph.search.records import sealed

NAME = "run.json"
SPEC = "spec.bcg"

FOREIGN = (
    "weights.safetensors",
    "checkpoint.safetensors",
    "state.safetensors",
    "last.safetensors",
    "log.csv",
    "log.jsonl",
    "best.bcg",
)
"""Files of a training run, or of a search whose `run.json` is lost: no search starts in such a directory."""

DATASET = "dataset"
"""The option that says which data a search from Python was given in place of those that its file names."""

FORMAT = 1
"""The version of the format of a run directory. It rises when the meaning of any record changes."""


_ANY: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class _Init:
    pool: int | Literal["all"]
    keep: int


@dataclass(frozen=True)
class _Evolve:
    # A report does not load what a search registered, so that any name may stand here.
    score: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
    iterations: int
    population: int


@dataclass(frozen=True)
class _Search:
    max_backward: int
    init: _Init
    evolve: _Evolve


@dataclass(frozen=True)
class _Spec:
    name: str
    search: _Search


@dataclass(frozen=True)
class _Run:
    """What reports read of `run.json`."""

    version: str
    study: str
    seed: int
    options: dict[str, Any]
    spec: _Spec


_SHAPE = TypeAdapter(_Run)


@dataclass(frozen=True)
class Identity:
    """The identity of a run: specification, seed, version and options."""

    spec: NetworkSpec
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def study_name(self) -> str:
        """The name of the run in a storage that other runs may share."""
        return f"{self.spec.name}-{keys.derive(self.seed, json.dumps(self._spec(), sort_keys=True)):016x}"

    def as_data(self) -> dict[str, Any]:
        """Plain data; the backbone as its call and its digest."""
        return {
            "format": FORMAT,
            "version": bcgraph.__version__,
            "study": self.study_name,
            "seed": self.seed,
            "options": dict(self.options),
            "spec": self._spec(),
        }

    def _spec(self) -> dict[str, Any]:
        spec = self.spec.model_dump(mode="json", exclude={"backbone"})
        spec["backward"] = sorted(
            [bc.source, bc.target, bc.delay, *([] if bc.gain is None else [bc.gain])] for bc in self.spec.backward
        )
        call = self.spec.backbone.call
        arguments = ", ".join(f"{name}={value}" for name, value in call.arguments)
        spec["backbone"] = f"{call.name}({arguments})"
        spec["layers"] = self.spec.backbone.digest
        return spec


def claim(directory: Path, identity: Identity) -> bool:
    """Claim a locked directory for a run. Returns whether it was the run's before, which means that the run resumes.

    Raises RunError: E085 when it belongs to another run, with the differences named, or holds other files of ours;
    E084 when it cannot be written.
    """
    path = directory / NAME
    here = json.loads(json.dumps(identity.as_data()))
    try:
        there = sealed.read(path, _ANY)
    except FileNotFoundError:
        _refuse_foreign(directory)
        files.write_text(directory / SPEC, dsl.format_spec(identity.spec))
        # Last: with this file the directory belongs to the run.
        sealed.write(path, here)
        return False
    except (OSError, ValueError) as error:
        raise RunError("E085", f"`{path}` cannot be read: {error}", hint="start in a new directory") from error
    differences = [d for d in compare(_complete(there), _complete(here)) if d[0] != "study"]
    if all(name != "layers" for name, *_ in differences):
        # A backbone may have got an argument since then; its layers say that it is the same.
        differences = [d for d in differences if d[0] != "backbone"]
    if differences:
        raise RunError(
            "E085",
            f"`{directory}` holds another run",
            notes=[f"{name}: {theirs} there, {ours} here" for name, theirs, ours in differences[:8]],
            hint="give it another --out, or repeat the command that began it",
        )
    files.write_text(directory / SPEC, dsl.format_spec(identity.spec))
    return True


def at_once(directory: Path) -> int | None:
    """How many candidates the search in `directory` evaluates at once; None where there is no search yet.

    Raises RunError (E085) as `read_identity`.
    """
    if not (directory / NAME).exists():
        return None
    found = read_identity(directory)["options"].get("at_once", LATER["at_once"])
    return found if isinstance(found, int) else None


def read_identity(directory: Path) -> dict[str, Any]:
    """The content of `run.json`. Raises RunError (E085) when `directory` is not that of a search."""
    path = directory / NAME
    try:
        data = sealed.read(path, _ANY)
        if data.get("format") != FORMAT:
            raise RunError("E085", f"`{directory}` was written by another version of bcgraph")
        foreign.checked(data, _SHAPE)
    except FileNotFoundError as error:
        if not directory.exists():
            raise RunError("E085", f"there is no directory `{directory}`") from error
        raise RunError("E085", f"`{directory}` is not the directory of a search", hint=f"it holds no {NAME}") from error
    except (OSError, ValueError) as error:
        raise RunError("E085", f"`{path}` cannot be read: {error}", hint="take it from a copy") from error
    return data


def specification(directory: Path) -> NetworkSpec:
    """The network of the search in `directory`, as its `spec.bcg` says. Raises RunError (E085) where it is another."""
    path, kept = directory / SPEC, read_identity(directory)["spec"]
    found = dsl.load(path)
    if kept.get("layers", found.backbone.digest) != found.backbone.digest:
        raise RunError(
            "E085",
            f"`{path}` is another network than that of the search beside it",
            hint="the command that began the search writes the file again",
        )
    return found


def data_name(directory: Path, spec: NetworkSpec) -> tuple[str, bool]:
    """What the data of a search are called, and whether they are those that `spec` names. Raises RunError (E085)."""
    given = read_identity(directory)["options"].get(DATASET)
    return (spec.data.name, True) if given is None else (str(given["data"]), False)


def compare(there: Any, here: Any, name: str = "") -> list[tuple[str, str, str]]:
    """Where two values of plain data differ: a dotted name, and both sides as text."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in sorted(set(there) | set(here)):
            inner = f"{name}.{key}" if name else key
            found += compare(there.get(key), here.get(key), inner.removeprefix("spec."))
        return found
    return [] if there == here else [(name, _short(there), _short(here))]


def _complete(identity: Any) -> Any:
    """An identity with the options that it leaves out."""
    if not isinstance(identity, dict) or not isinstance(identity.get("options"), dict):
        return identity
    return identity | {"options": LATER | identity["options"]}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse_foreign(directory: Path) -> None:
    for name in FOREIGN:
        if (directory / name).exists():
            raise RunError(
                "E085",
                f"`{directory}` holds `{name}` of something else",
                hint="give a new or an empty directory",
            )
