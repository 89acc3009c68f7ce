"""The log of a training run for TensorBoard, beside `log.csv`. Needs the extra `tensorboard`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bcgraph import files
from bcgraph.errors import RunError
from bcgraph.training.events import Epoch

FOLDER = "tensorboard"


def check() -> None:
    """Raise RunError (E092) unless TensorBoard is installed."""
    if find_spec("tensorboard") is None:
        raise RunError(
            "E092",
            "a log for TensorBoard needs `tensorboard`, which is not installed",
            hint="pip install 'bcgraph[tensorboard]'; `log.csv` is written in any case",
        )


@contextmanager
def open_log(out: Path, history: Sequence[Epoch]) -> Iterator[Callable[[Epoch], None]]:
    """A log in `out/tensorboard`, to which each call adds an epoch.

    It begins with `history`, the epochs done before, so that after a kill it holds each epoch once. Raises
    RunError: E092 when TensorBoard is not installed, E084 when the log cannot be written.
    """
    check()
    from torch.utils.tensorboard import SummaryWriter

    folder = out / FOLDER
    with _written(folder):
        if folder.exists():
            shutil.rmtree(folder)
        writer = SummaryWriter(str(folder))

    def add(epoch: Epoch) -> None:
        with _written(folder):
            for name, value in (
                ("lr", epoch.lr),
                ("loss/train", epoch.loss),
                ("accuracy/train", epoch.train_accuracy),
                ("accuracy/test", epoch.test_accuracy),
            ):
                writer.add_scalar(name, value, epoch.epoch)
            writer.flush()

    try:
        for epoch in history:
            add(epoch)
        yield add
    finally:
        writer.close()


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise files.cannot_write(folder, error) from error
