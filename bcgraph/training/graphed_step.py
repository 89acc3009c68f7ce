"""The whole train step as one CUDA graph: loss, backward pass, clipping, update and average."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bcgraph.nn.graphs.capture import Capture
from bcgraph.nn.graphs.graphed import Graphed
from bcgraph.training.batches import Batch
from bcgraph.training.ema import EMA
from bcgraph.training.options import Options
from bcgraph.training.train_step import StepResult, TrainStep, set_learning_rate


def exact(options: Options, device: torch.device) -> bool:
    """Whether a captured step is the plain one: on one GPU, without a gradient scaler, which asks for its numbers."""
    return options.graphs and device.type == "cuda" and options.devices == 1 and options.precision != "16-mixed"


@dataclass(frozen=True, eq=False)
class GraphedStep:
    """`step` and the update of `average`, captured for each kind of batch.

    The learning rates of the optimizer are tensors (see `optimizers.optimizer`), since a number would be part of the
    capture. Weights, running statistics, optimizer state and averages stay in their places.
    """

    step: TrainStep
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: EMA
    capture: Capture
    updates_average: ClassVar[bool] = True
    graphed: Graphed = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "graphed", Graphed(self._run, self._state, self.capture, "the train step"))

    @property
    def network(self) -> Any:
        """The network that is trained."""
        return self.step.network

    def __call__(self, batch: Batch, lr: float) -> StepResult:
        """As `TrainStep`, and the average follows."""
        if batch.error is not None:
            result = self.step(batch, lr)
            self.average.update()
            return result
        set_learning_rate(self.optimizer, lr)
        x, y, others = self.step.on_device(batch)
        inputs = [x, y]
        if batch.partners is not None:
            inputs += [others, torch.full((), batch.share, dtype=self.step.loss_dtype, device=x.device)]
        loss, correct = self.graphed(batch.size, *inputs)
        return StepResult(loss, correct)

    def _run(
        self, x: Tensor, y: Tensor, others: Tensor | None = None, share: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        # The size of the whole batch: one process has all of it.
        result = self.step.update(x, y, y if others is None else others, share, len(y))
        self.average.update()
        return result.loss, result.correct

    def _state(self) -> Iterable[Tensor]:
        yield from self.model.parameters()
        yield from self.model.buffers()
        yield from self.average.values.values()
        for kept in self.optimizer.state.values():
            yield from (value for value in kept.values() if isinstance(value, Tensor))
