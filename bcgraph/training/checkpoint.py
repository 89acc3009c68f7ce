"""The state of a training run between two epochs, in one safetensors file.

Weights and optimizer state are its tensors; everything else is JSON in its metadata. In one file the two are always of
the same epoch, and nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from bcgraph import files, foreign, weights
from bcgraph.errors import RunError, WeightsError
from bcgraph.training.events import Epoch
from bcgraph.training.optimizers import STEP_TYPE, state_keys

FORMAT = 1
MODEL = "model."
OPTIMIZER = "optimizer."


@dataclass(frozen=True)
class _Described:
    """The metadata of a checkpoint."""

    format: Literal[1]
    identity: dict[str, Any]
    history: tuple[Epoch, ...]
    precision: dict[str, Any]
    threads: int | None = None


_SHAPE = TypeAdapter(_Described)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a resumed run needs: `identity` says what is trained and how, `history` has the epochs done.

    `threads` is torch's number of threads in the last epoch; None in checkpoints from before it was kept.
    """

    identity: Mapping[str, Any]
    history: tuple[Epoch, ...]
    tensors: Mapping[str, Tensor]
    precision: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` in one step. Raises RunError (E084)."""
    described = {
        "format": FORMAT,
        "identity": checkpoint.identity,
        "history": [asdict(epoch) for epoch in checkpoint.history],
        "precision": checkpoint.precision,
        "threads": checkpoint.threads,
    }
    files.write_bytes(path, weights.pack(checkpoint.tensors, described))


def load(path: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint at `path`, which must be of the run that `identity` describes.

    Raises WeightsError (E082) when the file is damaged, RunError (E085) when it belongs to something else, with the
    differences named.
    """
    tensors, described = weights.unpack(path)
    try:
        kept = foreign.checked(described, _SHAPE)
    except foreign.UnreadableError as error:
        raise WeightsError("E082", f"`{path}` is not a checkpoint of this version", notes=(str(error),)) from error
    found, history = kept.identity, kept.history
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
    check_epochs(path, [epoch.epoch for epoch in history], identity.get("train.epochs"))
    return Checkpoint(found, history, tensors, kept.precision, kept.threads)


def check_epochs(path: Path, epochs: Sequence[int], planned: object) -> None:
    """Raise WeightsError (E082) unless a checkpoint has the first of `planned` epochs, one or more, in order."""
    if not epochs or list(epochs) != list(range(1, len(epochs) + 1)):
        raise WeightsError("E082", f"`{path}` is damaged: its epochs are not in order")
    if isinstance(planned, int) and len(epochs) > planned:
        raise WeightsError("E082", f"`{path}` is damaged: it holds {len(epochs)} epochs of a run of {planned}")


def collect(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The weights of `model` and the state of `optimizer`, by parameter name."""
    tensors = {MODEL + name: value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{OPTIMIZER}{key}.{name}"] = torch.as_tensor(value)
    return tensors


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def restore(tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore what `collect` returned. Raises WeightsError (E083) when it does not fit."""
    weights.apply(model, under(tensors, MODEL))
    _restore_optimizer(tensors, dict(model.named_parameters()), optimizer)


def _restore_optimizer(
    tensors: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(OPTIMIZER):
            key, _, parameter = name.removeprefix(OPTIMIZER).partition(".")
            if parameter not in parameters:
                raise WeightsError("E083", f"the checkpoint has optimizer state for `{parameter}`, which is not there")
            found.setdefault(parameter, {})[key] = value
    wanted = state_keys(optimizer)
    on_device = any(group.get("capturable") for group in optimizer.param_groups)
    if wanted and not found:
        raise WeightsError("E083", "the checkpoint has no optimizer state")
    for name, state in found.items():
        # A parameter that no step has used yet has no state; any other has all of it.
        if state.keys() != wanted:
            raise WeightsError("E083", f"the checkpoint has not the optimizer state that `{name}` needs")
        own = parameters[name]
        for key, value in state.items():
            if (flaw := _flaw(key, value, own)) is not None:
                raise WeightsError("E083", f"the optimizer state of `{name}` cannot be: `{key}` is {flaw}")
            if key == "step":
                # AdamW counts its steps in a tensor that stays on the CPU, unless a CUDA graph holds the update.
                counted = value.to(own.device, STEP_TYPE) if on_device else value.to(torch.float32)
                optimizer.state[own][key] = counted
            else:
                # A file has no layouts, and a fused update takes one for a weight and all that belongs to it.
                optimizer.state[own][key] = torch.empty_like(own, requires_grad=False).copy_(value)


def _flaw(key: str, value: Tensor, own: Tensor) -> str | None:
    if key == "step":
        whole = value.dim() == 0 and not value.is_complex() and bool(torch.isfinite(value))
        return None if whole and float(value) >= 1 and float(value).is_integer() else "no number of steps"
    if value.shape != own.shape or value.dtype != own.dtype:
        return f"of another shape or type than its parameter: {list(value.shape)} of {value.dtype}"
    if not bool(torch.isfinite(value).all()):
        return "not finite"
    return "negative" if key == "exp_avg_sq" and bool((value < 0).any()) else None
