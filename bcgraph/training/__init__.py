"""Losses, optimizers, the training loop, checkpoints, evaluation. Importing a name of it imports torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcgraph.training.accuracy import evaluate
    from bcgraph.training.events import Epoch, Event, Progress, Step, TrainResult
    from bcgraph.training.loop import train
    from bcgraph.training.losses import predict
    from bcgraph.training.options import Options

__all__ = ["Epoch", "Event", "Options", "Progress", "Step", "TrainResult", "evaluate", "predict", "train"]

_HOMES = {
    "Epoch": "events",
    "Event": "events",
    "Options": "options",
    "Progress": "events",
    "Step": "events",
    "TrainResult": "events",
    "evaluate": "accuracy",
    "predict": "losses",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"bcgraph.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
