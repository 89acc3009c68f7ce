"""The files of a run's directory: which weights go with which text, and whether they are the run's own.

A training run is what its checkpoint says that it trains, and a search what its `run.json` says. The weights that a run
writes, and the file that a search exports, keep a digest of that, so that those of another run in their place are
noticed. Files of earlier versions have the seed alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcgraph import foreign, seals, tensorfiles
from bcgraph.errors import RunError, WeightsError

LAST, BEST, ONNX = "last.safetensors", "best.safetensors", "best.onnx"

PAIRS = (("best.bcg", BEST), ("spec.bcg", LAST))
"""The specification and the weights in a run directory, the first pair that exists: of a search, or a training run."""

DIGEST = "run"
"""The entry of the metadata that says of which run a file is."""

_CHECKPOINT, _SEARCH = "state.safetensors", "run.json"


@dataclass(frozen=True, slots=True)
class Run:
    """The run in a directory: the digest of its identity, its seed and, for a training run, its finished epochs."""

    digest: str
    seed: int
    epochs: int | None = None


def digest(identity: Mapping[str, Any]) -> str:
    """A digest of what a run is, equal for runs that have the same results."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def run_of(directory: Path) -> Run | None:
    """The run in a directory; None where nothing in it can be read that tells."""
    if (directory / _SEARCH).exists():
        return _search(directory / _SEARCH)
    try:
        described = tensorfiles.described(directory / _CHECKPOINT)
    except WeightsError:
        return None
    identity, history = described.get("identity"), described.get("history")
    seed = identity.get("seed") if isinstance(identity, dict) else None
    if not isinstance(seed, int) or not isinstance(history, list):
        return None
    return Run(digest(identity), seed, len(history))  # type: ignore[arg-type]


def _search(path: Path) -> Run | None:
    try:
        found = foreign.parse(foreign.read(path, foreign.MAX_JSON))
    except (OSError, foreign.UnreadableError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("seed"), int):
        return None
    return Run(digest({name: value for name, value in found.items() if name != seals.NAME}), found["seed"])


def check_weights(path: Path, fingerprint: str | None = None) -> None:
    """Raise RunError (E085) where weights in a run's directory are of another run, or of an epoch long past.

    So for those of another network than the one of `fingerprint`, which the text beside them describes. What cannot be
    read is no business of this: whoever loads it says so.
    """
    run = run_of(path.parent)
    try:
        described = tensorfiles.described(path)
    except WeightsError:
        return
    if run is None:
        return
    found = tensorfiles.metadata(described)
    command = "the command of the search" if run.epochs is None else "`bcgraph train`"
    hint = f"{command} writes it again; --weights uses a file all the same"
    check(path, run, found, hint)
    # A kill between the two files leaves the checkpoint an epoch ahead.
    epoch = found.get("epoch", "")
    if path.name == LAST and run.epochs is not None and epoch not in ("", str(run.epochs), str(run.epochs - 1)):
        raise RunError(
            "E085",
            f"`{path}` is of epoch {epoch}, but the run has had {run.epochs}",
            hint=hint,
        )
    if fingerprint is not None and described.get("fingerprint", fingerprint) != fingerprint:
        text = next(text for text, weights in PAIRS if weights == path.name)
        raise RunError(
            "E085",
            f"`{path.with_name(text)}` is another network than `{path.name}` beside it",
            hint=hint,
        )


def check_exported(path: Path, metadata: Mapping[str, str]) -> None:
    """Raise RunError (E085) where `best.onnx` in the directory of a search is of another one, by its metadata."""
    if path.name != ONNX or not (path.parent / _SEARCH).exists():
        return
    run = run_of(path.parent)
    if run is None:
        return
    found = {name.removeprefix("bcgraph."): value for name, value in metadata.items()}
    hint = "the command of the search writes it again; a file of another name runs all the same"
    check(path, run, found, hint)
    try:
        chosen = tensorfiles.described(path.with_name(BEST)).get("fingerprint")
    except WeightsError:
        return
    if chosen is not None and found.get("fingerprint", chosen) != chosen:
        raise RunError("E085", f"`{path}` is another network than the search has found", hint=hint)


def check(path: Path, run: Run, metadata: Mapping[str, str], hint: str) -> None:
    """Raise RunError (E085) where `metadata` name another run than `run`."""
    for what, own in (("seed", str(run.seed)), (DIGEST, run.digest)):
        found = metadata.get(what, own)
        if found != own:
            other = f"seed {found}, where {own} is right" if what == "seed" else "same seed, other settings or data"
            raise RunError("E085", f"`{path}` is of another run: {other}", hint=hint)
