"""One update of the weights from one batch."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricModule, _FabricOptimizer
from torch import Tensor

from bcgraph.readout import predict
from bcgraph.schema import NetworkSpec, SequenceInput
from bcgraph.training.losses import LOSSES, mean_squared
from bcgraph.training.options import Options


@dataclass(frozen=True, eq=False)
class Update:
    """A network and its optimizer, as Fabric has set them up, and how a batch is computed."""

    spec: NetworkSpec
    options: Options
    fabric: Fabric
    network: _FabricModule
    optimizer: _FabricOptimizer

    def __call__(self, x: Tensor, y: Tensor, lr: float, *, of: int) -> tuple[float, int]:
        """Update from this process's share of a batch of `of` samples, unless the loss is not finite.

        Returns the mean loss of the whole batch, and how many of this share were predicted right.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        x = x.to(device=self.fabric.device, dtype=self.options.dtype)
        y = y.to(self.fabric.device)
        axis = 1 if isinstance(self.spec.input, SequenceInput) else 0
        parts = min(self.spec.train.accumulate, max(1, len(y) // 2))
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        correct = torch.zeros((), dtype=torch.long, device=self.fabric.device)
        pieces = list(zip(x.tensor_split(parts, axis), y.tensor_split(parts), strict=True))
        for number, (piece, labels) in enumerate(pieces, start=1):
            wait = number < parts and self.fabric.world_size > 1
            with self.fabric.no_backward_sync(self.network) if wait else nullcontext():
                outputs = self.network(piece)
                # Processes average their gradients, so a share counts by its size.
                part = self._loss(outputs, labels) * (len(labels) * self.fabric.world_size / of)
                self.fabric.backward(part)
            loss += part.detach()
            correct += (predict(outputs.detach(), self.spec.readout) == labels).sum()
        value = float(torch.as_tensor(self.fabric.all_reduce(loss, reduce_op="mean")))
        if math.isfinite(value):
            if self.spec.train.clip:
                self.fabric.clip_gradients(
                    self.network, self.optimizer, max_norm=self.spec.train.clip, error_if_nonfinite=False
                )
            self.optimizer.step()
        return value, int(correct)

    def _loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        settings = self.spec.train
        loss = LOSSES[settings.loss](outputs, labels, settings.label_smoothing)
        weight = settings.mean_squared
        if weight:
            loss = (1 - weight) * loss + weight * mean_squared(outputs, self.spec.neuron.threshold)
        return loss
