"""Training runs as they lie on the disk: those of `bcgraph train`, and those of the last stage of a search."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcgraph import dsl, foreign, tensorfiles
from bcgraph.errors import RunError
from bcgraph.schema import NetworkSpec

STATE, SPEC, LOG = "state.safetensors", "spec.bcg", "log.csv"
_FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Point:
    """An epoch of a run: mean loss, and accuracies on the training and the held-out part."""

    epoch: int
    lr: float
    loss: float
    train: float
    held_out: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """A training run. `held_out` says on which part its accuracies are: `test` or `validation`.

    `settings` is what it was trained with, apart from the seed, as plain data. `label` names it in a search.
    """

    path: Path
    spec: NetworkSpec
    seed: int
    held_out: str
    settings: Mapping[str, Any]
    history: tuple[Point, ...]
    label: str | None = None

    @property
    def accuracy(self) -> float:
        """The accuracy after the last epoch, the one to report."""
        return self.history[-1].held_out

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) >= self.spec.train.epochs


def is_training(directory: Path) -> bool:
    """Whether a directory holds a training run with a whole epoch."""
    return (directory / STATE).is_file() and (directory / LOG).is_file()


def read(directory: Path, label: str | None = None) -> Run:
    """The training run in a directory.

    Its epochs are those in the checkpoint. Checkpoints of other tools may have none, and then `log.csv` tells.
    Raises RunError (E085) when there is none, when its files are damaged, or when they are of several runs.
    """
    if not is_training(directory):
        raise RunError(
            "E085",
            f"`{directory}` is not the directory of a training run",
            hint="it needs state.safetensors and log.csv, which `bcgraph train` writes after the first epoch",
        )
    metadata = tensorfiles.read(directory / STATE)[1]
    identity = metadata.get("identity")
    if not isinstance(identity, dict) or not isinstance(identity.get("seed"), int):
        raise RunError("E085", f"`{directory / STATE}` does not say what it was trained with")
    settings = {k: v for k, v in identity.items() if k not in ("seed", "held_out")}
    held_out = str(identity.get("held_out", "test"))
    spec = dsl.load(directory / SPEC)
    if identity.get("fingerprint", spec.fingerprint()) != spec.fingerprint():
        raise RunError(
            "E085",
            f"`{directory / SPEC}` is another network than `{STATE}` beside it was trained with",
            hint="the command that trained it writes the file again",
        )
    history = _recorded(directory / STATE, metadata.get("history")) or _history(directory / LOG)
    return Run(directory, spec, identity["seed"], held_out, settings, history, label)


def find(directory: Path) -> list[Run]:
    """The training runs that a directory stands for: its own, or those of the last stage of a search, by name.

    A directory whose folders are training runs stands for them. Raises RunError (E085) when it stands for none.
    """
    if is_training(directory):
        return [read(directory)]
    stage = directory / _FINISH
    if stage.is_dir():
        return list(_stage(stage))
    found = [read(each) for each in _folders(directory) if is_training(each)]
    if not found:
        raise RunError(
            "E085",
            f"`{directory}` holds no training run",
            hint="name the --out of `bcgraph train`, a folder of such, or a search whose file has `finish { }`",
        )
    return found


def _stage(stage: Path) -> Iterator[Run]:
    for network in _folders(stage):
        for each in _folders(network):
            if is_training(each):
                yield read(each, network.name)


def _folders(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir())
    except OSError as error:
        raise RunError("E085", f"cannot read `{directory}`: {error.strerror}") from error


def _recorded(path: Path, rows: object) -> tuple[Point, ...]:
    """The epochs in the metadata of a checkpoint."""
    try:
        return tuple(map(_point, rows)) if isinstance(rows, list) else ()
    except (ValueError, KeyError, TypeError) as error:
        raise RunError("E085", f"`{path}` has epochs that cannot be read: {error}") from error


def _history(path: Path) -> tuple[Point, ...]:
    try:
        text = foreign.read(path, foreign.MAX_JSON).decode()
        found = tuple(_point(row) for row in csv.DictReader(io.StringIO(text)))
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError("E085", f"`{path}` cannot be read as the log of a training run: {error}") from error
    if not found:
        raise RunError("E085", f"`{path}` has no epochs")
    return found


def _point(row: Mapping[str, Any]) -> Point:
    held_out = row["validation_accuracy" if "validation_accuracy" in row else "test_accuracy"]
    values = [float(row[name]) for name in ("lr", "loss", "train_accuracy")] + [float(held_out), float(row["seconds"])]
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not finite")
    return Point(int(row["epoch"]), *values)


# --- Groups -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Training runs that differ by their seeds alone; `name` tells them from the others that are compared."""

    name: str
    runs: tuple[Run, ...]

    @property
    def by_seed(self) -> dict[int, float]:
        """The accuracy of each finished run."""
        return {run.seed: run.accuracy for run in self.runs}


def group(runs: Sequence[Run]) -> list[Group]:
    """Runs of the same network and settings together, in the order of the first of each.

    A seed that a group has twice counts once. Raises RunError (E085) when accuracies are on different parts of data.
    """
    parts = sorted({(run.held_out, run.settings.get("data")) for run in runs}, key=str)
    if len(parts) > 1:
        listed = ", ".join(f"{part} of {data}" for part, data in parts)
        raise RunError("E085", f"accuracies on different data do not compare: {listed}", hint="compare fewer runs")
    found: dict[str, dict[int, Run]] = {}
    for run in runs:
        key = json.dumps(dict(run.settings), sort_keys=True, default=str)
        found.setdefault(key, {}).setdefault(run.seed, run)
    groups = [tuple(by_seed.values()) for by_seed in found.values()]
    return [Group(name, members) for name, members in zip(_names(groups), groups, strict=True)]


def _names(groups: Sequence[tuple[Run, ...]]) -> list[str]:
    """What tells groups apart: their labels, else connections, then the settings that differ."""
    firsts = [members[0] for members in groups]
    plain = [run.label or wiring(run.spec) for run in firsts]
    names: list[str] = []
    for name, run in zip(plain, firsts, strict=True):
        facts = [_facts(other) for other, same in zip(firsts, plain, strict=True) if same == name]
        own = _facts(run)
        differing = [key for key in own if any(other.get(key) != own[key] for other in facts)]
        shown = ", ".join(f"{key.removeprefix('train.')} {own[key]}" for key in differing)
        names.append(f"{name} ({shown})" if shown else name)
    return names


def _facts(run: Run) -> dict[str, str]:
    """What may tell a run from another one, as people write it."""
    spec = run.spec
    named = {"network": spec.name, "backbone": str(spec.backbone.call), "connections": wiring(spec)}
    named |= {"neuron": str(spec.neuron), "feedback": str(spec.feedback), "steps": str(spec.steps)}
    hidden = ("fingerprint", "network", "backbone", "backward", "forward", "gains", "steps")
    return named | {key: str(value) for key, value in run.settings.items() if key not in hidden}


def wiring(spec: NetworkSpec) -> str:
    """The connections of a network by the names of their ports."""
    listed = [f"{spec.ports[each.source]} -> {spec.ports[each.target]}" for each in spec.in_order]
    return ", ".join(listed) or "none"
