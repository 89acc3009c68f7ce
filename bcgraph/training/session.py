"""A training run: its epochs, and the files that each of them writes."""

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
from torch import Tensor, nn

from bcgraph import dsl, files, keys
from bcgraph import weights as weight_files
from bcgraph.data import Splits
from bcgraph.errors import RunError
from bcgraph.nn.determinism import reproducible
from bcgraph.schema import NetworkSpec
from bcgraph.training import checkpoint as checkpoints
from bcgraph.training.accuracy import evaluate
from bcgraph.training.batches import Batch, batches, losses
from bcgraph.training.distributed.process_group import ProcessGroup, on_every_rank, on_rank_zero
from bcgraph.training.ema import EMA
from bcgraph.training.events import Epoch, Progress, Step, TrainResult, log_text
from bcgraph.training.optimizers import factor, optimizer
from bcgraph.training.options import Options
from bcgraph.training.tensorboard_log import open_log
from bcgraph.training.train_step import TrainStep

STATE = "state.safetensors"
LAST = "last.safetensors"
BEST = "best.safetensors"
SPEC = "spec.bcg"
LOG = "log.csv"


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """The network, its data and its directory. Each process of `group` has one; the first writes the files."""

    spec: NetworkSpec
    folder: Path
    seed: int
    identity: Mapping[str, Any]
    splits: Splits
    options: Options
    group: ProcessGroup
    model: nn.Module
    progress: Progress
    ema: EMA
    tensorboard: bool = False

    def run(self, *, resume: bool) -> TrainResult:
        """Train the epochs that remain."""
        settings = self.spec.train
        plain = optimizer(self.model.parameters(), settings.optimizer)
        if not resume:
            on_rank_zero(self.group, self._forget)
        history = on_every_rank(self.group, lambda: self._restored(plain))
        on_rank_zero(self.group, lambda: files.write_text(self.folder / SPEC, dsl.format_spec(self.spec)))
        network, wrapped = self.group.setup(self.model, plain)
        train_step = TrainStep(self.spec, settings, self.group, network, wrapped, self.options.dtype)
        logs = self.tensorboard and self.group.is_global_zero
        with ExitStack() as stack, reproducible():
            kept = open_log(self.folder, history) if logs else nullcontext(_ignore)
            log = on_every_rank(self.group, lambda: stack.enter_context(kept))
            for epoch in range(len(history), settings.epochs):
                record = self._epoch(epoch, train_step)
                history = (*history, record)
                on_rank_zero(self.group, partial(self._keep, history, plain))
                on_rank_zero(self.group, partial(log, record))
                if self.group.is_global_zero:
                    self.progress(record)
        # Written again after a resume: a kill may have come between the checkpoint and these.
        on_rank_zero(self.group, lambda: self._publish(LAST, history[-1]))
        on_rank_zero(self.group, lambda: files.write_text(self.folder / LOG, log_text(history)))
        best = max(epoch.test_accuracy for epoch in history)
        return TrainResult(history[-1].test_accuracy, best, history, self.folder / LAST)

    def _forget(self) -> None:
        """Remove the files of another run, so that an interrupted run resumes from its own."""
        for name in (STATE, LAST, BEST, LOG):
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise files.cannot_write(self.folder / name, error) from error

    def _restored(self, plain: torch.optim.Optimizer) -> tuple[Epoch, ...]:
        """Restore the state after the last whole epoch; returns the epochs done."""
        if not (self.folder / STATE).exists():
            return ()
        state = checkpoints.load(self.folder / STATE, self.identity)
        checkpoints.restore(state.tensors, self.model, plain)
        self.ema.restore(state.tensors)
        self.group.load_precision_state(state.precision)
        return state.history

    def _epoch(self, epoch: int, train_step: TrainStep) -> Epoch:
        settings, batch, split = self.spec.train, self.spec.data.batch, self.splits.train
        rank, world = self.group.global_rank, self.group.world_size
        # One sample has no statistics to normalize by: a last batch that leaves a device with one is left out.
        drop_last = 0 < len(split) % batch < min(batch, 2 * world)
        steps = split.steps(batch, drop_last)
        key = keys.derive(self.seed, "train", epoch)
        started = time.perf_counter()
        correct = torch.zeros((), dtype=torch.long, device=self.group.device)
        loss = 0.0
        seen = 0

        def lr(step: int) -> float:
            return settings.optimizer.lr * factor(settings.schedule, epoch * steps + step, steps, settings.epochs)

        def update(step: int, batch: Batch) -> Tensor:
            # Dropout draws from torch's generator, which every step seeds.
            torch.manual_seed(keys.derive(self.seed, "step", epoch, step, rank))
            result = train_step(batch, lr(step))
            self.ema.update()
            correct.add_(result.correct)
            return result.loss

        train_step.network.train()
        with batches(self.spec, split, self.group, key, drop_last=drop_last) as read:
            for step, size, value in losses(self.group, read, update):
                if not math.isfinite(value):
                    raise self._diverged(value, epoch, step)
                loss += value * size
                seen += size
                if self.group.is_global_zero:
                    self.progress(Step(epoch + 1, settings.epochs, step + 1, steps, value))
        with self.ema.applied():
            accuracy = self._accuracy()
        seconds = round(time.perf_counter() - started, 3)
        return Epoch(epoch + 1, lr(steps - 1), loss / seen, self._total(int(correct)) / seen, accuracy, seconds)

    def _accuracy(self) -> float:
        """The accuracy on the test part, of which each process evaluates its share."""
        test = self.splits.test
        share = test.subset(range(self.group.global_rank, len(test), self.group.world_size))
        size = max(self.spec.data.batch, 128)

        def measured() -> float:
            return evaluate(self.model, share, readout=self.spec.readout, batch=size) if len(share) else 0.0

        accuracy = on_every_rank(self.group, measured)
        return self._total(round(accuracy * len(share))) / len(test)

    def _total(self, count: int) -> int:
        """The sum over all processes."""
        summed = self.group.all_reduce(torch.tensor(count, device=self.group.device), reduce_op="sum")
        return int(torch.as_tensor(summed))

    def _keep(self, history: tuple[Epoch, ...], plain: torch.optim.Optimizer) -> None:
        """Write an epoch's files. The checkpoint comes first: the others can be written again from it."""
        record = history[-1]
        if all(record.test_accuracy > earlier.test_accuracy for earlier in history[:-1]):
            self._publish(BEST, record)
        precision = self.group.precision_state()
        tensors = {**checkpoints.collect(self.model, plain), **self.ema.tensors()}
        checkpoints.save(self.folder / STATE, checkpoints.Checkpoint(self.identity, history, tensors, precision))
        self._publish(LAST, record)
        files.write_text(self.folder / LOG, log_text(history))

    def _publish(self, name: str, record: Epoch) -> None:
        described = {
            "epoch": str(record.epoch),
            "test_accuracy": repr(record.test_accuracy),
            "seed": str(self.seed),
        }
        with self.ema.applied():
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
