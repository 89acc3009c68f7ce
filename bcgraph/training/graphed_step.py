"""The whole train step as one CUDA graph: loss, backward pass, clipping, update and average."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.nn.graphs.graphed import Graphed, Graphs
from bcgraph.nn.graphs.recordings import Recordings
from bcgraph.training.batches import Batch
from bcgraph.training.distributed.process_group import first_wrong
from bcgraph.training.ema import EMA
from bcgraph.training.options import Options
from bcgraph.training.train_step import StepResult, TrainStep, set_learning_rate


def plain_because(options: Options, device: torch.device, *, exchanges: bool = False) -> str | None:
    """Why the whole step cannot be captured; None where it can, which then depends on how its first replays do.

    `exchanges` says that its processes exchange gradients in a way that can be captured (`fabric.ExchangeGroup`).
    """
    if device.type != "cuda":
        return "there is no GPU"
    if options.devices > 1 and not (exchanges and options.graphs == "on"):
        said = f"{options.devices} processes exchange their gradients in it"
        # No GPUs have run this yet, so it must be asked for.
        return f"{said}, which only `--graphs on` captures" if exchanges else said
    if options.precision == "16-mixed":
        return "the gradient scaler of `16-mixed` waits for numbers of the device"
    return None


def captures(options: Options, device: torch.device, *, tells: bool = True, exchanges: bool = False) -> bool:
    """Whether the train step is captured. Where a GPU is there and it cannot be, a process that `tells` warns.

    `exchanges` as in `plain_because`. Raises RunError (E074) where captures are asked for and cannot be.
    """
    reason = plain_because(options, device, exchanges=exchanges)
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

    Several processes capture and replay it together. All of them call it with their shares of the same batches.
    """

    step: TrainStep
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: EMA | None
    recordings: Recordings
    graphs: Graphs = "auto"
    _graphed: dict[tuple[int, bool], Graphed] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.together:
            # What else one process captures must not push out what the others keep.
            object.__setattr__(self, "recordings", Recordings(self.recordings.capture))

    @property
    def together(self) -> bool:
        """Whether other processes share each batch."""
        return self.step.group.world_size > 1

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
        set_learning_rate(self.optimizer, lr)
        x, y, others = self.step.on_device(batch)
        mixed = batch.partners is not None
        inputs = [x, y]
        if mixed:
            inputs += [others, torch.full((), batch.share, dtype=self.step.loss_dtype, device=x.device)]
        if self.together:
            inputs.append(torch.full((), batch.error is not None, dtype=torch.bool, device=x.device))
        loss, correct = self._of_kind(batch.size, mixed)((), *inputs)
        return StepResult(loss, correct)

    @contextmanager
    def released(self) -> Iterator[None]:
        """On exit all captures are given up: NCCL waits for those of its calls before a process leaves its group."""
        try:
            yield
        finally:
            for graphed in self._graphed.values():
                graphed.release()

    def _of_kind(self, size: int, mixed: bool) -> Graphed:
        """The step for batches of `size` samples of all processes, mixed or not."""
        if (size, mixed) not in self._graphed:
            group = self.step.group
            self._graphed[size, mixed] = Graphed(
                partial(self._run, size, mixed),
                self._state,
                self.recordings,
                "the train step",
                required=self.graphs == "on",
                agreed=partial(first_wrong, group) if self.together else None,
            )
        return self._graphed[size, mixed]

    def _run(self, size: int, mixed: bool, x: Tensor, y: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        others, share = more[:2] if mixed else (y, None)
        result = self.step.update(x, y, others, share, size, failed=more[-1] if self.together else False)
        if self.average is not None:
            self.average.update()
        return result.loss, result.correct

    def _state(self) -> Iterable[Tensor]:
        yield from self.model.parameters()
        yield from self.model.buffers()
        if self.average is not None:
            yield from self.average.values.values()
        for kept in self.optimizer.state.values():
            yield from (value for value in kept.values() if isinstance(value, Tensor))
