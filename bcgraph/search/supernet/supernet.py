"""The supernet: one set of weights for every architecture of the space (paper 4.2.3, design 1.13).

It is the backbone with one projection for each pair of ports. Each training step draws one architecture, uniformly over
the space, and updates only the weights that it uses. What a step does follows from the seed, the epoch and the step
alone, so a run that is stopped resumes after its last whole epoch and ends with the same weights.

One process trains it, or several (`bcgraph.search.supernet.devices`), each with its part of every batch, batch
statistics over all of it, and gradients that DistributedDataParallel averages.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, fx, nn

from bcgraph import files, foreign, keys, weights
from bcgraph.data.split import Split
from bcgraph.errors import RunError, WeightsError
from bcgraph.nn.defaults import ordinary_defaults
from bcgraph.nn.determinism import generators_kept, reproducible, seeded
from bcgraph.nn.graphs.capture import Capture, CudaCapture
from bcgraph.schema import NetworkSpec, TrainSpec
from bcgraph.search.space.search_space import Architecture, SearchSpace, of_search, wired
from bcgraph.search.supernet.checkpoint import STATE, WEIGHTS, everything, identity, named, of_another, same, weights_in
from bcgraph.search.supernet.paths import Paths
from bcgraph.search.supernet.shared_weights import SharedWeights
from bcgraph.training import checks
from bcgraph.training.batches import Batch, batches, losses
from bcgraph.training.checkpoint import check_epochs, collect, restore
from bcgraph.training.distributed.process_group import ProcessGroup, SingleProcess, on_every_rank, on_rank_zero
from bcgraph.training.epoch import check_weights
from bcgraph.training.graphed_step import captures
from bcgraph.training.optimizers import factor, optimizer
from bcgraph.training.options import Options
from bcgraph.training.train_step import TrainStep

_EPOCHS: TypeAdapter[tuple[tuple[int, float, int], ...]] = TypeAdapter(tuple[tuple[int, float, int], ...])

# Compiled architectures that are kept. The smaller spaces fit; in a large one an architecture hardly ever comes again.
_KEPT = 256


@dataclass(frozen=True, slots=True)
class SupernetEpoch:
    """One finished epoch: its number from 1, the mean training loss, and the number of steps."""

    epoch: int
    loss: float
    steps: int


@dataclass
class Supernet:
    """The shared weights of a search space and how they are trained on `split`.

    `spec.train` gives the loss (`tet` unless another is asked for), the optimizer and the schedule; `spec.search` the
    space and the number of epochs. State dict names are those of the standard parameters (`backward.J_I.conv.weight`).
    `machine` is what it is trained on, which the last digits depend on, `device` where its weights are.
    """

    spec: NetworkSpec
    seed: int
    split: Split
    schedule: str = "unrolled"
    dtype: torch.dtype = torch.float32
    machine: Options = field(default_factory=Options)
    device: torch.device | str = "cpu"
    space: SearchSpace = field(init=False)
    full: nn.Module = field(init=False)
    history: tuple[SupernetEpoch, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        self.space = of_search(self.spec)
        self.weights = SharedWeights(
            keys.derive(self.seed, "supernet", "weights"), dtype=self.dtype, device=self.device
        )
        whole = everything(self.spec, self.space)
        self.full = self.weights.root(whole[0]) if len(whole) == 1 else self.weights.whole_tree(whole)
        self._compiled: OrderedDict[Architecture, fx.GraphModule] = OrderedDict()

    def model(self, architecture: Architecture) -> fx.GraphModule:
        """The network of an architecture, with the supernet's own weights."""
        if architecture not in self._compiled:
            spec = wired(self.spec, architecture)
            self._compiled[architecture] = self.weights.candidate(spec, self.schedule)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(architecture)
        return self._compiled[architecture]

    def paths(self, capture: Callable[[], Capture] | None = None) -> Paths:
        """The networks of all architectures from parts that are compiled once, or captured with `capture`."""
        return Paths(
            self.full, everything(self.spec, self.space)[0] if self.spec.search.space is None else None, capture
        )

    def drawn(self, epoch: int, step: int) -> Architecture:
        """The architecture that a training step updates."""
        rng = keys.rng(self.seed, "supernet", epoch, step)
        return self.space.architecture(rng.randrange(self.space.size))

    def train(
        self, out: Path, progress: Callable[[SupernetEpoch], None], group: ProcessGroup | None = None
    ) -> tuple[SupernetEpoch, ...]:
        """Train or resume, with a checkpoint in `out` after each epoch; then write `supernet.safetensors`.

        Each process of a `group` calls this with the same supernet; the first writes and calls `progress`. Raises
        DataError (E081) when there are too few samples, RunError: E088 when the loss is not finite, E084 when a file
        cannot be written, E085 when the checkpoint belongs to another run; in all processes alike.
        """
        group = group or SingleProcess()
        for epoch in self.epochs(out, group):
            if group.is_global_zero:
                progress(epoch)
        return self.history

    def epochs(self, out: Path, group: ProcessGroup) -> Iterator[SupernetEpoch]:
        """Train as `train` does: yields each new epoch once its checkpoint is written; `history` has all of them."""
        checks.samples(self.split, self.spec.data.batch, group.world_size)
        plain = optimizer(self.full, self.spec.train.optimizer)
        self.history, done = on_every_rank(group, lambda: (self._resume(out / STATE, plain), self.finished(out)))
        if len(self.history) == self.spec.search.supernet.epochs and done:
            return
        captured = captures(self.machine, torch.device(group.device), tells=group.is_global_zero)
        network, update = group.setup(_Drawn(self, CudaCapture().apart if captured else None), plain)
        # Of `train` only the loss, the optimizer and the schedule are the supernet's.
        settings = TrainSpec(loss=self.spec.train.loss)
        step = TrainStep(self.spec, settings, group, network, update, self.dtype, self.dtype)
        with ordinary_defaults(), generators_kept(), reproducible():
            for epoch in range(len(self.history), self.spec.search.supernet.epochs):
                self.history = (*self.history, self._epoch(epoch, step))
                on_rank_zero(group, partial(self._keep, out / STATE, self.history, plain))
                yield self.history[-1]
        on_rank_zero(group, lambda: weights.save(out / WEIGHTS, self.full.state_dict(), spec=self._named()))

    def epochs_kept(self, out: Path) -> int:
        """How many epochs the checkpoint in `out` has; 0 where there is none. Raises as `train` does."""
        path = out / STATE
        return len(self._kept(path)[1]) if path.exists() else 0

    def take(self, out: Path) -> tuple[SupernetEpoch, ...]:
        """Take the weights of a finished run in `out`; returns its epochs.

        Raises WeightsError (E082, E083) when there is none, RunError (E085) when it is another.
        """
        _, history = self._kept(out / STATE)
        weights.apply(self.full, weights.load(out / WEIGHTS, spec=self._named()))
        return history

    def _epoch(self, epoch: int, train_step: TrainStep) -> SupernetEpoch:
        settings, batch, group = self.spec.train, self.spec.data.batch, train_step.group
        # A batch of one sample has no statistics to normalize by, and each process needs a part of it.
        drop_last = batch > 1 and 0 < len(self.split) % batch < max(2, group.world_size)
        steps = self.split.steps(batch, drop_last)
        key = keys.derive(self.seed, "supernet", "order", epoch)
        rank = [group.global_rank] if group.world_size > 1 else []

        def update(step: int, batch: Batch) -> Tensor:
            rate = factor(settings.schedule, epoch * steps + step, steps, self.spec.search.supernet.epochs)
            # Dropout draws from torch's generator, which every step seeds.
            with seeded(keys.derive(self.seed, "supernet", "dropout", epoch, step, *rank), group.device):
                return train_step(batch, settings.optimizer.lr * rate, self.drawn(epoch, step)).loss

        total = 0.0
        with batches(self.spec, self.split, group, key, drop_last=drop_last) as read:
            for step, _, value in losses(group, read, update):
                if not math.isfinite(value):
                    raise RunError(
                        "E088",
                        f"the loss of the supernet became {value} in epoch {epoch + 1}, step {step + 1}",
                        hint="a smaller learning rate or a warm-up often helps",
                    )
                total += value
        check_weights(self.full, epoch)
        return SupernetEpoch(epoch + 1, total / steps, steps)

    def _keep(self, path: Path, history: tuple[SupernetEpoch, ...], update: torch.optim.Optimizer) -> None:
        described = {"identity": self._identity(), "history": [[e.epoch, e.loss, e.steps] for e in history]}
        files.write_bytes(path, weights.pack(collect(self.full, update), described))

    def _resume(self, path: Path, update: torch.optim.Optimizer) -> tuple[SupernetEpoch, ...]:
        if not path.exists():
            return ()
        tensors, history = self._kept(path)
        restore(tensors, self.full, update)
        return history

    def _kept(self, path: Path) -> tuple[dict[str, Tensor], tuple[SupernetEpoch, ...]]:
        """The tensors and the epochs of a checkpoint, which must be one of this run."""
        tensors, described = weights.unpack(path)
        if described.get("identity") != self._identity():
            raise of_another(path)
        try:
            found = foreign.checked(described.get("history"), _EPOCHS)
        except foreign.UnreadableError as error:
            raise WeightsError("E082", f"`{path}` is not a checkpoint of this version", notes=(str(error),)) from error
        check_epochs(path, [epoch for epoch, _, _ in found], self.spec.search.supernet.epochs)
        return tensors, tuple(SupernetEpoch(*epoch) for epoch in found)

    def finished(self, out: Path) -> bool:
        """Whether the weights of a finished run are in `out`: those of its checkpoint, of which they are written again.

        Raises as `train` does for the checkpoint of another run.
        """
        if not all((out / name).exists() for name in (STATE, WEIGHTS)):
            return False
        tensors, history = self._kept(out / STATE)
        try:
            found = weights.load(out / WEIGHTS, spec=self._named())
        except WeightsError:
            return False
        return len(history) == self.spec.search.supernet.epochs and same(found, weights_in(tensors))

    def _identity(self) -> dict[str, Any]:
        return {
            **identity(self.spec, self.seed),
            "dtype": str(self.dtype),
            "schedule": self.schedule,
            # Left out at its default, as in checkpoints from before there was a choice.
            **({} if self.machine == Options() else {"devices": self.machine.devices, "on": self.machine.accelerator}),
            **({} if self.machine.precision == "32" else {"precision": self.machine.precision}),
        }

    def _named(self) -> NetworkSpec:
        return named(self.spec, self.space)


class _Drawn(nn.Module):
    """A supernet in training as one module, which is called with an architecture and its input."""

    def __init__(self, supernet: Supernet, capture: Callable[[], Capture] | None) -> None:
        super().__init__()
        self.full = supernet.full
        self.spec = supernet.spec
        self.model = supernet.model
        # What runs all steps in another order has no segments of a step.
        self.paths = supernet.paths(capture) if supernet.schedule == "unrolled" else None

    def forward(self, architecture: Architecture, x: Tensor) -> Tensor:
        """What the network of the architecture gives; see `bcgraph.compile`."""
        if self.paths is not None:
            return self.paths.run(wired(self.spec, architecture), x)
        outputs: Tensor = self.model(architecture).train()(x)
        return outputs
