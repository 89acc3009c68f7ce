"""The state of a training run between two epochs, in one safetensors file.

Weights and optimizer state are its tensors; everything else is JSON in its metadata. In one file the two are always of
the same epoch, and nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph import files, weights
from bcgraph.errors import RunError, WeightsError
from bcgraph.training.events import Epoch

FORMAT = 1
MODEL = "model."
OPTIMIZER = "optimizer."


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a resumed run needs: `identity` says what is trained and how, `history` has the epochs done."""

    identity: Mapping[str, Any]
    history: tuple[Epoch, ...]
    tensors: Mapping[str, Tensor]
    precision: Mapping[str, Any] = field(default_factory=dict)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` in one step. Raises RunError (E084)."""
    described = {
        "format": FORMAT,
        "identity": checkpoint.identity,
        "history": [asdict(epoch) for epoch in checkpoint.history],
        "precision": checkpoint.precision,
    }
    files.write_bytes(path, weights.pack(checkpoint.tensors, described))


def load(path: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint at `path`, which must be of the run that `identity` describes.

    Raises WeightsError (E082) when the file is damaged, RunError (E085) when it belongs to something else, with the
    differences named.
    """
    tensors, described = weights.unpack(path)
    try:
        if described["format"] != FORMAT:
            raise ValueError(described["format"])
        found: dict[str, Any] = dict(described["identity"])  # type: ignore[call-overload]
        history = tuple(Epoch(**epoch) for epoch in described["history"])  # type: ignore[attr-defined]
        precision: dict[str, Any] = dict(described["precision"])  # type: ignore[call-overload]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError("E082", f"`{path}` is not a checkpoint of this version") from error
    differences = [
        f"{key}: {found.get(key)} in the checkpoint, {identity.get(key)} now"
        for key in sorted(found.keys() | identity.keys())
        if found.get(key) != identity.get(key)
    ]
    if differences:
        raise RunError(
            "E085",
            f"`{path.parent}` holds a training run of something else",
            notes=differences,
            hint="name another directory, or give the settings it was started with",
        )
    return Checkpoint(found, history, tensors, precision)


def collect(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The weights of `model` and the state of `optimizer`, by parameter name."""
    tensors = {MODEL + name: value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{OPTIMIZER}{key}.{name}"] = torch.as_tensor(value)
    return tensors


def restore(tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore what `collect` returned. Raises WeightsError (E083) when it does not fit."""
    own = {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
    weights.apply(model, own)
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        if name.startswith(OPTIMIZER):
            key, _, parameter = name.removeprefix(OPTIMIZER).partition(".")
            if parameter not in parameters:
                raise WeightsError("E083", f"the checkpoint has optimizer state for `{parameter}`, which is not there")
            # AdamW counts its steps in a tensor that stays on the CPU.
            place = parameters[parameter].device if value.dim() else value.device
            optimizer.state[parameters[parameter]][key] = value.to(place)
