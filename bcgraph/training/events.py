"""What training reports while it runs, and what it returns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bcgraph import notebook

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Step:
    """After update `step` of `steps` in epoch `epoch` of `epochs`; all count from 1. `loss` is that of the batch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """After a whole epoch: the learning rate it ended with, the mean loss and accuracy of training, and the test's.

    The test accuracy is recorded, and decides nothing but which epoch `best.safetensors` keeps. In the last stage of a
    search it is measured on validation data.
    """

    epoch: int
    lr: float
    loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float


Event: TypeAlias = Step | Epoch
Progress: TypeAlias = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished training run. `accuracy` is that of the last epoch on the test part, and the one to report.

    `best` is the highest test accuracy of any epoch: chosen on the test part, it is too good by construction.
    `path` is the weights file of the last epoch.
    """

    accuracy: float
    best: float
    history: tuple[Epoch, ...]
    path: Path

    def to_frame(self) -> DataFrame:
        """A pandas frame with a row for each epoch. Raises RunError (E092) where pandas is not installed."""
        return notebook.frame(asdict(epoch) for epoch in self.history)

    def _repr_html_(self) -> str:
        """What a notebook shows: the accuracy, and the epochs."""
        summary = f"<p>test accuracy {self.accuracy:.4f} after {len(self.history)} epochs</p>"
        return summary + notebook.table([asdict(epoch) for epoch in self.history[::-1]])


def log_text(history: Sequence[Epoch], held_out: str = "test") -> str:
    """`log.csv`: a header and one line an epoch; `held_out` says on which part the last accuracy is measured."""
    stream = io.StringIO()
    names = {field.name: field.name for field in fields(Epoch)} | {"test_accuracy": f"{held_out}_accuracy"}
    writer = csv.DictWriter(stream, list(names), lineterminator="\n")
    writer.writerow(names)
    writer.writerows(asdict(epoch) for epoch in history)
    return stream.getvalue()
