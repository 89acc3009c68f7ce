"""The train step: one update of the weights from one batch, for a network and for a supernet alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from bcgraph.readout import predict
from bcgraph.schema import NetworkSpec, SequenceInput, TrainSpec
from bcgraph.training.batches import Batch
from bcgraph.training.distributed.process_group import ProcessGroup
from bcgraph.training.losses import LOSSES, distillation, mean_squared


@dataclass(frozen=True, eq=False)
class StepResult:
    """Scalars on the device: the mean `loss` of the whole batch, and how many of this process's share are `correct`."""

    loss: Tensor
    correct: Tensor


@dataclass(frozen=True, eq=False)
class TrainStep:
    """`network` and `optimizer` as `group.setup` returns them, and what a batch does to them.

    `settings` gives the loss, clipping and accumulation, `spec` the input, the readout and the threshold. Samples are
    converted to `dtype`; losses are summed in `loss_dtype`. A `teacher` gives its outputs `[N, classes]` for samples as
    the network takes them.
    """

    spec: NetworkSpec
    settings: TrainSpec
    group: ProcessGroup
    network: Any
    optimizer: Any
    dtype: torch.dtype
    loss_dtype: torch.dtype = torch.float64
    teacher: Callable[[Tensor], Tensor] | None = None
    updates_average: ClassVar[bool] = False

    def __call__(self, batch: Batch, lr: float, *before: object) -> StepResult:
        """Update the weights from `batch`; the network is called with `before` and the samples.

        On the CPU, a loss that is not finite leaves the weights alone. On a GPU nobody waits for the loss, so its user
        must stop when it turns out not to be finite (`bcgraph.training.batches.losses`).
        """
        set_learning_rate(self.optimizer, lr)
        share = None if batch.partners is None else batch.share
        return self.update(*self.on_device(batch), share, batch.size, *before, failed=batch.error is not None)

    def on_device(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Samples, labels, and the labels of what each sample is mixed with, on the device."""
        device = self.group.device
        x = batch.x.to(device=device, dtype=self.dtype, non_blocking=True)
        y = batch.y.to(device, non_blocking=True)
        # What is not mixed is mixed with itself.
        return x, y, y if batch.partners is None else batch.partners.to(device, non_blocking=True)

    def update(
        self,
        x: Tensor,
        y: Tensor,
        others: Tensor,
        mixed: float | Tensor | None,
        size: int,
        *before: object,
        failed: bool | Tensor = False,
    ) -> StepResult:
        """Update the weights from samples x of a batch of `size`, of which labels y count by `mixed`, if they are.

        Where this process has `failed` to read its share, the loss is nan in all. A tensor says so on the device.

        On a GPU nothing here waits for the device, or depends on its numbers: the call can be captured.
        """
        group, device = self.group, self.group.device
        axis = 1 if isinstance(self.spec.input, SequenceInput) else 0
        # From the smallest share: with other numbers of parts, processes would not exchange the same statistics.
        number = min(self.settings.accumulate, max(1, size // group.world_size // 2))
        # Without gradients an optimizer leaves a weight alone, decay included: a supernet updates only the path drawn.
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), dtype=self.loss_dtype, device=device)
        correct = torch.zeros((), dtype=torch.long, device=device)
        split = (x.tensor_split(number, axis), y.tensor_split(number), others.tensor_split(number))
        for index, (part, labels, partners) in enumerate(zip(*split, strict=True), start=1):
            wait = index < number and group.world_size > 1
            with group.no_backward_sync(self.network) if wait else nullcontext():
                outputs = self.network(*before, part)
                # Processes average their gradients, so a share counts by its size.
                hard = self._loss(outputs, labels)
                if mixed is not None:
                    own, other = _weights(mixed, hard.dtype)
                    hard = own * hard + other * self._loss(outputs, partners)
                share = self._taught(hard, outputs, part) * (len(labels) * group.world_size / size)
                group.backward(share)
            loss += share.detach()
            # Of a mixture, what it is made of for the larger part.
            likely = _likely(labels, partners, mixed)
            correct += (predict(outputs.detach(), self.spec.readout) == likely).sum()
        group.average_gradients(self.optimizer)
        # All processes see it in the mean and stop.
        if isinstance(failed, Tensor):
            loss.masked_fill_(failed, torch.nan)
        elif failed:
            loss.fill_(torch.nan)
        loss = group.all_reduce(loss)
        if device.type == "cuda" or bool(loss.isfinite()):
            if self.settings.clip:
                group.clip_gradients(
                    self.network, self.optimizer, max_norm=self.settings.clip, error_if_nonfinite=False
                )
            self.optimizer.step()
        return StepResult(loss, correct)

    def _loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        loss = LOSSES[self.settings.loss](outputs, labels, self.settings.label_smoothing)
        weight = self.settings.mean_squared
        if weight:
            threshold = self.spec.neuron.threshold
            assert threshold is not None, "refused with the specification"
            loss = (1 - weight) * loss + weight * mean_squared(outputs, threshold)
        return loss

    def _taught(self, loss: Tensor, outputs: Tensor, samples: Tensor) -> Tensor:
        """The loss together with the distance from the teacher, where there is one."""
        weight = self.settings.distill
        if self.teacher is None or not weight:
            return loss
        with torch.no_grad():
            logits = self.teacher(samples).to(outputs.dtype)
        distance = distillation(outputs, logits, self.settings.temperature, self.settings.loss)
        return (1 - weight) * loss + weight * distance


def _weights(mixed: float | Tensor, dtype: torch.dtype) -> tuple[float | Tensor, float | Tensor]:
    """How much the two labels of a mixture count. A tensor rounds to the type of the loss, as a number would."""
    if isinstance(mixed, Tensor):
        return mixed.to(dtype), (1 - mixed).to(dtype)
    return mixed, 1 - mixed


def _likely(labels: Tensor, partners: Tensor, mixed: float | Tensor | None) -> Tensor:
    if isinstance(mixed, Tensor):
        return torch.where(mixed >= 0.5, labels, partners)
    return labels if mixed is None or mixed >= 0.5 else partners


def set_learning_rate(optimizer: Any, lr: float) -> None:
    """Set the learning rate of all parameters; one that is a tensor stays where it is."""
    for parameters in optimizer.param_groups:
        if isinstance(parameters["lr"], Tensor):
            parameters["lr"].fill_(lr)
        else:
            parameters["lr"] = lr
