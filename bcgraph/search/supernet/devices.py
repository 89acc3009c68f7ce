"""The supernet trained on several devices, or on one that is not the CPU, through Lightning Fabric.

The process of the search takes no part: it holds the directory, the study and perhaps workers. Others are started that
load the data themselves and share each batch; the first of them writes the checkpoint after each epoch, and at the end
the weights, which the search goes on with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bcgraph import data, keys
from bcgraph.data.split import Split
from bcgraph.errors import RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search.supernet.supernet import WEIGHTS, Supernet, SupernetEpoch
from bcgraph.training import checks
from bcgraph.training.distributed.process_group import agreed
from bcgraph.training.options import Options, place

TRAIN_SHARE = 0.8
"""The part of the training data that a search trains on; the rest is for validation (paper 5.1)."""


def divided(spec: NetworkSpec, seed: int) -> tuple[Split, Split]:
    """The data that a search trains on and those that it validates on; the test set is never touched."""
    found = data.load(spec.data, spec.input, spec.steps)
    return found.train.divide(TRAIN_SHARE, keys.derive(seed, "search", "split"))


@dataclass(frozen=True)
class Member:
    """What each of the processes does: its part of the training of a supernet in `out`."""

    spec: NetworkSpec
    seed: int
    out: Path
    schedule: str
    dtype: torch.dtype
    machine: Options

    def __call__(self, tell: Callable[[SupernetEpoch], None], /) -> None:
        """Train; the first tells each epoch. Raises what `Supernet.train` does, and RunError (E074)."""
        from bcgraph.training.distributed.fabric import fabric_of
        from bcgraph.training.distributed.sync_batch_norm import synchronize

        # An architecture uses few of the projections. The statistics are those of all processes as they are.
        fabric = fabric_of(self.machine, started=True, find_unused_parameters=True, broadcast_buffers=False)
        split, _ = agreed(fabric, lambda: divided(self.spec, self.seed))
        net = Supernet(self.spec, self.seed, split, self.schedule, self.dtype, self.machine, fabric.device)
        if fabric.world_size > 1:
            synchronize(net.full)
        net.train(self.out, tell, fabric)


def train(supernet: Supernet, out: Path, progress: Callable[[SupernetEpoch], None]) -> tuple[SupernetEpoch, ...]:
    """Train `supernet` on its `machine`, or go on; it has the weights then, and lies where it lay.

    It must be one of the data that `divided` gives. Raises what `Supernet.train` does, RunError (E074) when there are
    no such devices, and (E093) when a process is lost.
    """
    if not (out / WEIGHTS).exists():
        from bcgraph.training.distributed import launcher

        job = Member(supernet.spec, supernet.seed, out, supernet.schedule, supernet.dtype, supernet.machine)
        launcher.run(job, supernet.machine.devices, progress)
    return supernet.take(out)


def evaluator(accelerator: str) -> str:
    """Where scores and accuracies are computed with devices of a kind: `cuda`, or `cpu` where `auto` finds no other.

    Raises RunError: E041 for an unknown kind, E074 when this machine has no such device or it cannot compute them.
    """
    found = place(accelerator)
    if accelerator == "mps":
        raise RunError("E074", "scores are computed in float64, which `mps` lacks", hint="--accelerator cpu")
    return "cuda" if found == "cuda" else "cpu"


def settled(spec: NetworkSpec, out: Path, machine: Options, *, evaluates: bool = False) -> Options:
    """`machine` with `auto` settled, found out about before a search begins.

    With `evaluates` candidates are to be evaluated on a GPU, where that is the kind. Raises RunError (E074) when this
    machine has no such device; when a supernet is still to be trained, also when there are not so many, and (E041) when
    its batch is too small to be shared.
    """
    missing = spec.search.evolve.score == "oneshot" and not (out / WEIGHTS).exists()
    if missing:
        checks.parts(spec, machine.devices)
    here = evaluates and machine.accelerator == "cuda"
    if machine.accelerator != "auto" and (machine.accelerator == "cpu" or not (missing or here)):
        return machine
    from bcgraph.training.distributed.fabric import kind

    return replace(machine, accelerator=kind(machine if missing else replace(machine, devices=1)))
