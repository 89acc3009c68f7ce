"""One epoch of training: its batches in a keyed order, an update for each, and what they sum up to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bcgraph import keys
from bcgraph.data.split import Split
from bcgraph.errors import RunError
from bcgraph.nn.determinism import seeded
from bcgraph.schema import NetworkSpec
from bcgraph.training.batches import Batch, batches, losses
from bcgraph.training.distributed.process_group import ProcessGroup
from bcgraph.training.ema import EMA
from bcgraph.training.events import Step
from bcgraph.training.graphed_step import GraphedStep
from bcgraph.training.optimizers import factor
from bcgraph.training.train_step import TrainStep

_HINT = "a smaller learning rate, a warm-up or clipping the gradient often helps"


@dataclass(frozen=True, slots=True)
class EpochSums:
    """The learning rate at the end of an epoch, and the mean loss and accuracy over its training samples."""

    lr: float
    loss: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class EpochLoop:
    """The epochs of a run on `split`, as `spec.train` says; each follows from the seed and its number alone.

    `folder` is named where training fails. `progress` is called with each `Step`, in the first process.
    """

    spec: NetworkSpec
    seed: int
    split: Split
    group: ProcessGroup
    ema: EMA
    folder: Path
    progress: Callable[[Step], None]

    def __call__(
        self, epoch: int, train_step: TrainStep | GraphedStep, after: Callable[[float], None] | None = None
    ) -> EpochSums:
        """Train one epoch, counted from 0. `after` is called with the learning rate after each update of the weights.

        Raises RunError (E088) when the loss or a weight is not finite, and the BcgraphError of reading a batch, in all
        processes.
        """
        settings, batch, split = self.spec.train, self.spec.data.batch, self.split
        rank, world = self.group.global_rank, self.group.world_size
        # One sample has no statistics to normalize by: a last batch that leaves a device with one is left out.
        drop_last = 0 < len(split) % batch < min(batch, 2 * world)
        steps = split.steps(batch, drop_last)
        key = keys.derive(self.seed, "train", epoch)
        correct = torch.zeros((), dtype=torch.long, device=self.group.device)
        loss = 0.0
        seen = 0

        def lr(step: int) -> float:
            return settings.optimizer.lr * factor(settings.schedule, epoch * steps + step, steps, settings.epochs)

        def update(step: int, batch: Batch) -> Tensor:
            # Dropout draws from torch's generator, which every step seeds.
            with seeded(keys.derive(self.seed, "step", epoch, step, rank), self.group.device):
                result = train_step(batch, lr(step))
            if after is not None:
                after(lr(step))
            if not train_step.updates_average:
                self.ema.update()
            correct.add_(result.correct)
            return result.loss

        train_step.network.train()
        with batches(self.spec, split, self.group, key, drop_last=drop_last, mixup=settings.mixup) as read:
            for step, size, value in losses(self.group, read, update):
                if not math.isfinite(value):
                    raise self._diverged(value, epoch, step)
                loss += value * size
                seen += size
                if self.group.is_global_zero:
                    self.progress(Step(epoch + 1, settings.epochs, step + 1, steps, value))
        check_weights(self.ema.model, epoch, self._kept(epoch))
        return EpochSums(lr(steps - 1), loss / seen, total(self.group, int(correct)) / seen)

    def _kept(self, epoch: int) -> str:
        return f"the {epoch} epochs before it are kept in `{self.folder}`" if epoch else "no epoch was finished"

    def _diverged(self, value: float, epoch: int, step: int) -> RunError:
        return RunError(
            "E088",
            f"the loss became {value} in epoch {epoch + 1}, step {step + 1}",
            notes=(self._kept(epoch),),
            hint=_HINT,
        )


def total(group: ProcessGroup, count: int) -> int:
    """The sum of a count over all processes."""
    return int(torch.as_tensor(group.all_reduce(torch.tensor(count, device=group.device), reduce_op="sum")))


def check_weights(model: nn.Module, epoch: int, *notes: str) -> None:
    """Raise RunError (E088) where weights or running statistics are not finite after an epoch, counted from 0.

    The loss need not show it: no neuron fires on a current that is no number, and the rest is finite.
    """
    wrong = [
        name
        for name, value in model.state_dict().items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise RunError(
            "E088",
            f"weights became nan or infinite in epoch {epoch + 1}: `{wrong[0]}`{more}",
            notes=(*notes, "a neuron or surrogate that divides by zero has such gradients while the loss stays finite"),
            hint=_HINT,
        )
