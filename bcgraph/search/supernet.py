"""The supernet: one set of weights for every architecture of the space (paper 4.2.3, design 1.13).

It is the backbone with one projection for each pair of ports. Each training step draws one architecture, uniformly over
the space, and updates only the weights that it uses. What a step does follows from the seed, the epoch and the step
alone, so a training that is stopped goes on after its last whole epoch and ends with the same weights.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from bcgraph import files, keys, weights
from bcgraph.data.split import Split
from bcgraph.errors import RunError, WeightsError
from bcgraph.schema import NetworkSpec
from bcgraph.search.operators.space import Architecture, Space, space
from bcgraph.search.weights import SharedWeights
from bcgraph.training.checkpoint import collect, restore
from bcgraph.training.losses import LOSSES
from bcgraph.training.optimizers import factor, optimizer

STATE = "supernet-state.safetensors"
WEIGHTS = "supernet.safetensors"

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
    """

    spec: NetworkSpec
    seed: int
    split: Split
    schedule: str = "unrolled"
    dtype: torch.dtype = torch.float32
    space: Space = field(init=False)
    full: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        settings = self.spec.search
        self.space = space(self.spec, settings.max_backward, same_resolution=settings.same_resolution)
        self.weights = SharedWeights(keys.derive(self.seed, "supernet", "weights"), dtype=self.dtype)
        self.full = self.weights.root(self._everything())
        self._compiled: OrderedDict[Architecture, fx.GraphModule] = OrderedDict()

    def model(self, architecture: Architecture) -> fx.GraphModule:
        """The network of an architecture, with the supernet's own weights."""
        if architecture not in self._compiled:
            spec = self.spec.with_backward(architecture)
            self._compiled[architecture] = self.weights.candidate(spec, self.schedule)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(architecture)
        return self._compiled[architecture]

    def drawn(self, epoch: int, step: int) -> Architecture:
        """The architecture that a training step updates."""
        rng = keys.rng(self.seed, "supernet", epoch, step)
        return self.space.architecture(rng.randrange(self.space.size))

    def train(self, out: Path, progress: Callable[[SupernetEpoch], None]) -> tuple[SupernetEpoch, ...]:
        """Train, or go on training, with a checkpoint in `out` after each epoch; then write `supernet.safetensors`.

        Raises RunError: E088 when the loss is not finite, E084 when a file cannot be written, E085 when the checkpoint
        belongs to another training.
        """
        update = optimizer(self.full.parameters(), self.spec.train.optimizer)
        history = self._resume(out / STATE, update)
        if len(history) == self.spec.search.supernet.epochs and (out / WEIGHTS).exists():
            return history
        with torch.random.fork_rng():
            for epoch in range(len(history), self.spec.search.supernet.epochs):
                done = self._epoch(epoch, update)
                history = (*history, done)
                described = {"identity": self._identity(), "history": [[e.epoch, e.loss, e.steps] for e in history]}
                files.write_bytes(out / STATE, weights.pack(collect(self.full, update), described))
                progress(done)
        weights.save(out / WEIGHTS, self.full.state_dict(), spec=self._everything())
        return history

    def _epoch(self, epoch: int, update: torch.optim.Optimizer) -> SupernetEpoch:
        settings, batch = self.spec.train, self.spec.data.batch
        # A batch of one sample has no statistics to normalize by.
        drop_last = batch > 1 and len(self.split) % batch == 1
        steps = self.split.steps(batch, drop_last)
        total = 0.0
        for step, (x, y) in enumerate(
            self.split.batches(batch, keys.derive(self.seed, "supernet", "order", epoch), drop_last)
        ):
            rate = factor(settings.schedule, epoch * steps + step, steps, self.spec.search.supernet.epochs)
            for group in update.param_groups:
                group["lr"] = settings.optimizer.lr * rate
            model = self.model(self.drawn(epoch, step)).train()
            # Dropout draws from torch's generator, which is put where this step's key says.
            torch.manual_seed(keys.derive(self.seed, "supernet", "dropout", epoch, step))
            loss = LOSSES[settings.loss](model(x.to(self.dtype)), y, 0.0)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise RunError(
                    "E088",
                    f"the loss of the supernet became {value} in epoch {epoch + 1}, step {step + 1}",
                    hint="a smaller learning rate or a warm-up often helps",
                )
            # Without gradients the optimizer leaves a weight alone, decay included: only the path drawn is updated.
            update.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            update.step()
            total += value
        return SupernetEpoch(epoch + 1, total / steps, steps)

    def _resume(self, path: Path, update: torch.optim.Optimizer) -> tuple[SupernetEpoch, ...]:
        if not path.exists():
            return ()
        tensors, described = weights.unpack(path)
        if described.get("identity") != self._identity():
            raise RunError("E085", f"`{path}` holds the supernet of something else", hint="start in a new directory")
        try:
            found: Any = described["history"]
            history = tuple(SupernetEpoch(int(e), float(loss), int(n)) for e, loss, n in found)
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError("E082", f"`{path}` is not a checkpoint of this version") from error
        restore(tensors, self.full, update)
        return history

    def _identity(self) -> dict[str, Any]:
        settings = self.spec.search
        return {
            "fingerprint": self._everything().fingerprint(),
            "seed": self.seed,
            "max_backward": settings.max_backward,
            "epochs": settings.supernet.epochs,
            "train": self.spec.train.model_dump(mode="json", exclude={"epochs"}),
            "batch": self.spec.data.batch,
            "dtype": str(self.dtype),
            "schedule": self.schedule,
        }

    def _everything(self) -> NetworkSpec:
        return self.spec.with_backward(self.space.pair(i) for i in range(self.space.pairs))


def inherited(path: Path, best: NetworkSpec) -> dict[str, Tensor]:
    """The weights that the network `best` has in the supernet of the run in `path`, by their standard names.

    Raises WeightsError (E082) when there is no supernet.
    """
    found, _ = weights.unpack(path / WEIGHTS)
    own = {f"backward.{bc.source}_{bc.target}." for bc in best.backward}
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("backward.") or any(name.startswith(prefix) for prefix in own)
    }
