"""A training run: its epochs, and the files that each of them writes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph import dsl, files, run_files
from bcgraph import weights as weight_files
from bcgraph.data import Splits
from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.nn.determinism import full_precision, reproducible
from bcgraph.nn.graphs.module import captured
from bcgraph.nn.graphs.recordings import cuda
from bcgraph.run_files import BEST, LAST
from bcgraph.schema import NetworkSpec
from bcgraph.training import checkpoint as checkpoints
from bcgraph.training.accuracy import evaluate
from bcgraph.training.distributed.process_group import ProcessGroup, on_every_rank, on_rank_zero
from bcgraph.training.ema import EMA
from bcgraph.training.epoch import EpochLoop, total
from bcgraph.training.events import Epoch, Progress, TrainResult, log_text
from bcgraph.training.graphed_step import GraphedStep, captures
from bcgraph.training.optimizers import optimizer
from bcgraph.training.options import Options
from bcgraph.training.tensorboard_log import open_log
from bcgraph.training.train_step import TrainStep

STATE = "state.safetensors"
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
    teacher: Callable[[Tensor], Tensor] | None = None

    def run(self, *, resume: bool) -> TrainResult:
        """Train the epochs that remain."""
        settings = self.spec.train
        device, tells = self.group.device, self.group.is_global_zero
        graphed = on_every_rank(self.group, lambda: captures(self.options, device, tells=tells, exchanges=True))
        plain = optimizer(self.model, settings.optimizer, captured=graphed)
        if not resume:
            on_rank_zero(self.group, self._forget)
        history = on_every_rank(self.group, lambda: self._restored(plain))
        on_rank_zero(self.group, lambda: files.write_text(self.folder / SPEC, dsl.format_spec(self.spec)))
        network, wrapped = self.group.setup(self.model, plain)
        train_step = TrainStep(
            self.spec, settings, self.group, network, wrapped, self.options.dtype, teacher=self.teacher
        )
        step: TrainStep | GraphedStep = train_step
        released: AbstractContextManager[object] = nullcontext()
        if graphed:
            step = GraphedStep(train_step, self.model, plain, self.ema, cuda(), self.options.graphs)
            released = step.released()
        call = captured(self.model, self.options.graphs, device)
        loop = EpochLoop(self.spec, self.seed, self.splits.train, self.group, self.ema, self.folder, self.progress)
        logs = self.tensorboard and self.group.is_global_zero
        with released, ExitStack() as stack, reproducible() if self.options.tf32 else full_precision():
            kept = open_log(self.folder, history) if logs else nullcontext(_ignore)
            log = on_every_rank(self.group, lambda: stack.enter_context(kept))
            for epoch in range(len(history), settings.epochs):
                record = self._epoch(epoch, loop, step, call)
                history = (*history, record)
                on_rank_zero(self.group, partial(self._keep, history, plain))
                on_rank_zero(self.group, partial(log, record))
                if self.group.is_global_zero:
                    self.progress(record)
        # Written again after a resume: a kill may have come between the checkpoint and these.
        on_rank_zero(self.group, lambda: self._publish(LAST, history[-1]))
        on_rank_zero(self.group, lambda: files.write_text(self.folder / LOG, self._log(history)))
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
        if self.group.is_global_zero:
            self._check_best(state.history)
        checkpoints.restore(state.tensors, self.model, plain)
        self.ema.restore(state.tensors)
        self.group.load_precision_state(state.precision)
        if self.group.is_global_zero and len(state.history) < self.spec.train.epochs:
            _note_threads(state.threads)
        return state.history

    def _check_best(self, history: tuple[Epoch, ...]) -> None:
        """Raise RunError (E085) where `best.safetensors` is not of this run: it cannot be written again from the rest.

        It may be an epoch ahead, as it is written first; earlier versions say less in it. Raises WeightsError (E082,
        E083) when it is damaged or of another network.
        """
        path = self.folder / BEST
        if not history or not path.is_file():
            return
        weight_files.load(path, spec=self.spec)
        found = weight_files.metadata(path)
        hint = "remove it, and the run resumes; it is written again when an epoch is better"
        run_files.check(path, run_files.Run(run_files.digest(self.identity), self.seed), found, hint)
        best = max(history, key=lambda epoch: epoch.test_accuracy)
        if found.get("epoch", str(best.epoch)) not in (str(best.epoch), str(len(history) + 1)):
            raise RunError(
                "E085", f"`{path}` is of another run: epoch {found['epoch']}, where {best.epoch} is right", hint=hint
            )

    def _epoch(
        self, epoch: int, loop: EpochLoop, train_step: TrainStep | GraphedStep, call: Callable[..., Any]
    ) -> Epoch:
        started = time.perf_counter()
        sums = loop(epoch, train_step)
        with self.ema.applied():
            accuracy = self._accuracy(call)
        seconds = round(time.perf_counter() - started, 3)
        return Epoch(epoch + 1, sums.lr, sums.loss, sums.accuracy, accuracy, seconds)

    def _accuracy(self, call: Callable[..., Any]) -> float:
        """The accuracy on the test part, of which each process evaluates its share."""
        test = self.splits.test
        share = test.subset(range(self.group.global_rank, len(test), self.group.world_size))
        size = max(self.spec.data.batch, 128)

        def measured() -> float:
            return evaluate(self.model, share, readout=self.spec.readout, batch=size, call=call) if len(share) else 0.0

        accuracy = on_every_rank(self.group, measured)
        return total(self.group, round(accuracy * len(share))) / len(test)

    def _keep(self, history: tuple[Epoch, ...], plain: torch.optim.Optimizer) -> None:
        """Write an epoch's files. The checkpoint comes first: the others can be written again from it."""
        record = history[-1]
        if all(record.test_accuracy > earlier.test_accuracy for earlier in history[:-1]):
            self._publish(BEST, record)
        precision = self.group.precision_state()
        tensors = {**checkpoints.collect(self.model, plain), **self.ema.tensors()}
        checkpoint = checkpoints.Checkpoint(self.identity, history, tensors, precision, torch.get_num_threads())
        checkpoints.save(self.folder / STATE, checkpoint)
        self._publish(LAST, record)
        files.write_text(self.folder / LOG, self._log(history))

    def _log(self, history: tuple[Epoch, ...]) -> str:
        return log_text(history, self.splits.held_out)

    def _publish(self, name: str, record: Epoch) -> None:
        described = {
            "epoch": str(record.epoch),
            f"{self.splits.held_out}_accuracy": repr(record.test_accuracy),
            "seed": str(self.seed),
            run_files.DIGEST: run_files.digest(self.identity),
            "data": self.splits.train.source.name,
            **({"chosen_on": self.splits.held_out} if name == BEST else {}),
        }
        with self.ema.applied():
            weight_files.save(self.folder / name, self.model.state_dict(), spec=self.spec, metadata=described)


def _note_threads(before: int | None) -> None:
    """Say that the run will not end with the bits of an uninterrupted one, where that is so."""
    now = torch.get_num_threads()
    if before not in (None, now):
        text = (
            f"this run was trained on {before} threads and resumes on {now}: sums in float32 round otherwise, so "
            f"its weights will differ from those of an uninterrupted run; OMP_NUM_THREADS={before} keeps them equal"
        )
        warnings.warn(BcgraphWarning(text), stacklevel=2)


def _ignore(_: Epoch) -> None:
    pass
