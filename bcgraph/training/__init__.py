"""Losses, optimizers, the training loop, checkpoints, evaluation. Importing a name of it imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy

if TYPE_CHECKING:
    from bcgraph.readout import predict
    from bcgraph.training.accuracy import evaluate
    from bcgraph.training.events import Epoch, Event, Progress, Step, TrainResult
    from bcgraph.training.loop import train
    from bcgraph.training.options import Options

__all__ = ["Epoch", "Event", "Options", "Progress", "Step", "TrainResult", "evaluate", "predict", "train"]

__getattr__ = lazy.attach(
    __name__,
    {
        "Epoch": "bcgraph.training.events:Epoch",
        "Event": "bcgraph.training.events:Event",
        "Options": "bcgraph.training.options:Options",
        "Progress": "bcgraph.training.events:Progress",
        "Step": "bcgraph.training.events:Step",
        "TrainResult": "bcgraph.training.events:TrainResult",
        "evaluate": "bcgraph.training.accuracy:evaluate",
        "predict": "bcgraph.readout:predict",
        "train": "bcgraph.training.loop:train",
    },
)
