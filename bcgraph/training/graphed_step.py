"""The whole train step as one CUDA graph: loss, backward pass, clipping, update and average."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.nn.graphs.graphed import Graphed, Graphs
from bcgraph.nn.graphs.recordings import Recordings
from bcgraph.training.batches import Batch
from bcgraph.training.ema import EMA
from bcgraph.training.options import Options
from bcgraph.training.train_step import StepResult, TrainStep, set_learning_rate


def plain_because(options: Options, device: torch.device) -> str | None:
    """Why the whole step cannot be captured; None where it can, which then depends on how its first replays do."""
    if device.type != "cuda":
        return "there is no GPU"
    if options.devices > 1:
        # A capture of NCCL's calls that fails leaves the other processes waiting, which no comparison notices.
        return f"{options.devices} processes exchange their gradients in it"
    if options.precision == "16-mixed":
        return "the gradient scaler of `16-mixed` waits for numbers of the device"
    return None


def captures(options: Options, device: torch.device, *, tells: bool = True) -> bool:
    """Whether the train step is captured. Where a GPU is there and it cannot be, a process that `tells` warns.

    Raises RunError (E074) where captures are asked for and cannot be.
    """
    reason = plain_because(options, device)
    if options.graphs == "off" or reason is None:
        return options.graphs != "off"
    said = f"the train step runs without CUDA graphs: {reason}"
    if options.graphs == "on":
        raise RunError("E074", said, hint="without `--graphs on` it runs, only slower")
    if tells and device.type == "cuda":
        warnings.warn(BcgraphWarning(said), stacklevel=2)
    return False


@dataclass(frozen=True, eq=False)
class GraphedStep:
    """`step` and the update of an `average`, captured for each kind of batch.

    The learning rates of the optimizer are tensors (see `optimizers.optimizer`), since a number would be part of the
    capture. Weights, running statistics, optimizer state and averages stay in their places.
    """

    step: TrainStep
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: EMA | None
    recordings: Recordings
    graphs: Graphs = "auto"
    graphed: Graphed = field(init=False)

    def __post_init__(self) -> None:
        required = self.graphs == "on"
        made = Graphed(self._run, self._state, self.recordings, "the train step", required=required)
        object.__setattr__(self, "graphed", made)

    @property
    def updates_average(self) -> bool:
        """Whether the average is part of the step."""
        return self.average is not None

    @property
    def network(self) -> Any:
        """The network that is trained."""
        return self.step.network

    def __call__(self, batch: Batch, lr: float) -> StepResult:
        """As `TrainStep`, and an average follows."""
        if batch.error is not None:
            result = self.step(batch, lr)
            self._follow()
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
        self._follow()
        return result.loss, result.correct

    def _follow(self) -> None:
        if self.average is not None:
            self.average.update()

    def _state(self) -> Iterable[Tensor]:
        yield from self.model.parameters()
        yield from self.model.buffers()
        if self.average is not None:
            yield from self.average.values.values()
        for kept in self.optimizer.state.values():
            yield from (value for value in kept.values() if isinstance(value, Tensor))
