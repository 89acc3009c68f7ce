"""One run of a training: its epochs, and the files that each leaves."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from bcgraph import dsl, files, keys
from bcgraph import weights as weight_files
from bcgraph.data import Splits
from bcgraph.errors import RunError
from bcgraph.nn.determinism import reproducible
from bcgraph.schema import NetworkSpec
from bcgraph.training import checkpoint as checkpoints
from bcgraph.training.accuracy import evaluate
from bcgraph.training.distributed.process_group import agreed, each, first
from bcgraph.training.ema import Average
from bcgraph.training.events import Epoch, Progress, Step, TrainResult, log_text
from bcgraph.training.optimizers import factor, optimizer
from bcgraph.training.options import Options
from bcgraph.training.tensorboard_log import board
from bcgraph.training.train_step import Update

STATE = "state.safetensors"
LAST = "last.safetensors"
BEST = "best.safetensors"
SPEC = "spec.bcg"
LOG = "log.csv"


@dataclass(frozen=True, eq=False)
class Training:
    """The network, the data, and where the files are. Of several processes each has one; the first writes."""

    spec: NetworkSpec
    folder: Path
    seed: int
    identity: Mapping[str, Any]
    splits: Splits
    options: Options
    fabric: Fabric
    model: nn.Module
    progress: Progress
    average: Average
    tensorboard: bool = False

    def run(self, *, resume: bool) -> TrainResult:
        """All epochs that are still to be done."""
        settings = self.spec.train
        plain = optimizer(self.model.parameters(), settings.optimizer)
        if not resume:
            first(self.fabric, self._forget)
        history = agreed(self.fabric, lambda: self._restored(plain))
        first(self.fabric, lambda: files.write_text(self.folder / SPEC, dsl.format_spec(self.spec)))
        network, update = self.fabric.setup(self.model, plain)
        updating = Update(self.spec, self.options, self.fabric, network, update)
        logs = self.tensorboard and self.fabric.is_global_zero
        with ExitStack() as stack, reproducible():
            kept = board(self.folder, history) if logs else nullcontext(_ignore)
            log = agreed(self.fabric, lambda: stack.enter_context(kept))
            for epoch in range(len(history), settings.epochs):
                record = self._epoch(epoch, updating)
                history = (*history, record)
                first(self.fabric, partial(self._keep, history, plain))
                first(self.fabric, partial(log, record))
                if self.fabric.is_global_zero:
                    self.progress(record)
        # Written again after a resume: a kill may have come between the checkpoint and these.
        first(self.fabric, lambda: self._publish(LAST, history[-1]))
        first(self.fabric, lambda: files.write_text(self.folder / LOG, log_text(history)))
        best = max(epoch.test_accuracy for epoch in history)
        return TrainResult(history[-1].test_accuracy, best, history, self.folder / LAST)

    def _forget(self) -> None:
        """Remove what another training has left, so that this one is what is gone on with after an interruption."""
        for name in (STATE, LAST, BEST, LOG):
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise files.cannot_write(self.folder / name, error) from error

    def _restored(self, plain: torch.optim.Optimizer) -> tuple[Epoch, ...]:
        """The epochs done before, with everything put back as it was after them."""
        if not (self.folder / STATE).exists():
            return ()
        state = checkpoints.load(self.folder / STATE, self.identity)
        checkpoints.restore(state.tensors, self.model, plain)
        self.average.restore(state.tensors)
        self.fabric.strategy.precision.load_state_dict(dict(state.precision))
        return state.history

    def _epoch(self, epoch: int, updating: Update) -> Epoch:
        settings, batch, split = self.spec.train, self.spec.data.batch, self.splits.train
        rank, world = self.fabric.global_rank, self.fabric.world_size
        # One sample has no statistics to normalize by: a last batch that leaves a device with one is left out.
        drop_last = 0 < len(split) % batch < min(batch, 2 * world)
        steps = split.steps(batch, drop_last)
        sizes = [min(batch, len(split) - start) for start in range(0, steps * batch, batch)]
        key = keys.derive(self.seed, "train", epoch)
        started = time.perf_counter()
        loss = 0.0
        correct = 0
        lr = 0.0
        updating.network.train()
        for step, (x, y) in enumerate(each(self.fabric, split.batches(batch, key, drop_last, (rank, world)))):
            lr = settings.optimizer.lr * factor(settings.schedule, epoch * steps + step, steps, settings.epochs)
            # Dropout draws from torch's generator, which is put where this update's key says.
            torch.manual_seed(keys.derive(self.seed, "step", epoch, step, rank))
            value, right = updating(x, y, lr, of=sizes[step])
            if not math.isfinite(value):
                raise self._diverged(value, epoch, step)
            self.average.update()
            loss += value * sizes[step]
            correct += right
            if self.fabric.is_global_zero:
                self.progress(Step(epoch + 1, settings.epochs, step + 1, steps, value))
        with self.average.applied():
            accuracy = self._accuracy()
        seconds = round(time.perf_counter() - started, 3)
        return Epoch(epoch + 1, lr, loss / sum(sizes), self._total(correct) / sum(sizes), accuracy, seconds)

    def _accuracy(self) -> float:
        """On the test part, of which each process takes its share."""
        test = self.splits.test
        share = test.subset(range(self.fabric.global_rank, len(test), self.fabric.world_size))
        size = max(self.spec.data.batch, 128)
        accuracy = agreed(self.fabric, lambda: evaluate(self.model, share, readout=self.spec.readout, batch=size))
        return self._total(round(accuracy * len(share))) / len(test)

    def _total(self, count: int) -> int:
        """The sum over all processes."""
        summed = self.fabric.all_reduce(torch.tensor(count, device=self.fabric.device), reduce_op="sum")
        return int(torch.as_tensor(summed))

    def _keep(self, history: tuple[Epoch, ...], plain: torch.optim.Optimizer) -> None:
        """Write an epoch's files. The checkpoint comes before those that can be made from it again."""
        record = history[-1]
        if all(record.test_accuracy > earlier.test_accuracy for earlier in history[:-1]):
            self._publish(BEST, record)
        precision = self.fabric.strategy.precision.state_dict()
        tensors = {**checkpoints.collect(self.model, plain), **self.average.tensors()}
        checkpoints.save(self.folder / STATE, checkpoints.Checkpoint(self.identity, history, tensors, precision))
        self._publish(LAST, record)
        files.write_text(self.folder / LOG, log_text(history))

    def _publish(self, name: str, record: Epoch) -> None:
        described = {
            "epoch": str(record.epoch),
            "test_accuracy": repr(record.test_accuracy),
            "seed": str(self.seed),
        }
        with self.average.applied():
            weight_files.save(self.folder / name, self.model.state_dict(), spec=self.spec, metadata=described)

    def _diverged(self, value: float, epoch: int, step: int) -> RunError:
        kept = f"the {epoch} epochs before it are kept in `{self.folder}`" if epoch else "no epoch was finished"
        return RunError(
            "E088",
            f"the loss became {value} in epoch {epoch + 1}, step {step + 1}",
            notes=(kept,),
            hint="a smaller learning rate, a warm-up or clipping the gradient often helps",
        )


def _ignore(_: Epoch) -> None:
    pass
