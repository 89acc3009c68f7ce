"""A few training steps, captured or not, on whatever device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bcgraph import compiler, schema
from bcgraph.nn.graphs.capture import Capture
from bcgraph.nn.graphs.recordings import Recordings
from bcgraph.training.batches import Batch
from bcgraph.training.checkpoint import collect
from bcgraph.training.distributed.devices import process_group
from bcgraph.training.ema import EMA
from bcgraph.training.graphed_step import GraphedStep
from bcgraph.training.optimizers import optimizer
from bcgraph.training.options import Options
from bcgraph.training.train_step import TrainStep

BATCHES = ((8, False), (8, False), (5, False), (8, True), (8, True), (5, False), (8, True), (8, False))
"""Sizes of batches, and whether samples are mixed. Most kinds come often enough to be captured and compared."""


def batch(size: int, seed: int, mixed: bool = False) -> Batch:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand((size, 1, 8, 8), generator=g)
    y, partners = torch.randint(10, (2, size), generator=g)
    share = torch.rand((), generator=g).item()
    return Batch(x, y, size, partners=partners, share=share) if mixed else Batch(x, y, size)


def trained(
    network: schema.NetworkSpec,
    options: Options,
    capture: Capture | None,
    *,
    capturable: bool = True,
    between: Callable[[nn.Module, EMA], None] = lambda model, average: None,
) -> tuple[dict[str, Tensor], list[float], list[int]]:
    """All that training changes, its losses and counts of correct samples.

    `capturable` says whether the optimizer is one that can be captured, `between` is called after every third step.
    """
    group = process_group(options)
    model = compiler.compile(network, dtype=options.dtype, device=group.device).train()
    update = optimizer(model, network.train.optimizer, captured=capturable)
    wrapped, own = group.setup(model, update)
    average = EMA(model, network.train.ema)
    plain = TrainStep(network, network.train, group, wrapped, own, options.dtype)
    step = plain if capture is None else GraphedStep(plain, model, update, average, Recordings(capture), options.graphs)
    losses, correct = [], []
    for number, (size, mixed) in enumerate(BATCHES):
        torch.manual_seed(number)
        result = step(batch(size, number, mixed), 0.01 / (1 + number))
        if not step.updates_average:
            average.update()
        losses.append(float(result.loss))
        correct.append(int(result.correct))
        if number % 3 == 2:
            between(model, average)
    return {**collect(model, update), **average.tensors()}, losses, correct
