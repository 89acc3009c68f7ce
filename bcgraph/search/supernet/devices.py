"""The supernet trained on several devices, or on one that is not the CPU, through Lightning Fabric.

The process of the search takes no part: it holds the directory, the study and perhaps workers. It starts others, which
load the data themselves and share each batch. The first of them writes the checkpoint after each epoch, and at the end
the weights, from which the search continues.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bcgraph import data, keys
from bcgraph.data.split import Split, Splits
from bcgraph.errors import DataError, RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.objectives import trains_supernet
from bcgraph.search.supernet import several
from bcgraph.search.supernet.supernet import Supernet, SupernetEpoch
from bcgraph.training import checks
from bcgraph.training.distributed.devices import device_type, process_group
from bcgraph.training.distributed.process_group import on_every_rank
from bcgraph.training.options import Options

TRAIN_SHARE = 0.8
"""The part of the training data that a search trains on; the rest is for validation (paper 5.1)."""


def divided(spec: NetworkSpec, seed: int, splits: Splits | None = None) -> tuple[Split, Split]:
    """The training and the validation data of a search, of `splits` or of the data set that `spec` names.

    It never touches the test set.
    """
    found = splits or data.load(spec.data, spec.input, spec.steps)
    checks.classes(spec, found.classes)
    return found.train.divide(TRAIN_SHARE, keys.derive(seed, "search", "split"))


@dataclass(frozen=True)
class SupernetProcess:
    """The work of each process: its share of training a supernet in `out`, on `split` where it is given.

    Without one it trains on the data of the search with the seed `search_seed`.
    """

    spec: NetworkSpec
    seed: int
    out: Path
    schedule: str
    dtype: torch.dtype
    machine: Options
    search_seed: int
    split: Split | None = None

    def __call__(self, send: Callable[[SupernetEpoch], None], /) -> None:
        """Train; the first process sends each epoch. Raises what `Supernet.train` does, and RunError (E074)."""
        from bcgraph.training.distributed.sync_batch_norm import synchronize

        # An architecture uses few of the projections. Buffers need no broadcast: statistics are equal everywhere.
        group = process_group(self.machine, started=True, find_unused_parameters=True, broadcast_buffers=False)
        split = self.split or on_every_rank(group, lambda: divided(self.spec, self.search_seed)[0])
        net = Supernet(self.spec, self.seed, split, self.schedule, self.dtype, self.machine, group.device)
        if group.world_size > 1:
            synchronize(net.full)
        net.train(self.out, send, group)


def train(
    supernet: Supernet,
    out: Path,
    progress: Callable[[SupernetEpoch], None],
    *,
    given: bool = False,
    search_seed: int | None = None,
) -> tuple[SupernetEpoch, ...]:
    """Train `supernet` on its `machine`, or resume; it then has the weights, on the device where it was.

    Its data must be those that `divided` returns for `search_seed`, by default its own seed, or with `given` travel to
    the processes. Raises what `Supernet.train` does, DataError (E081) for data that cannot travel, RunError (E074) when
    there are no such devices, and (E093) when a process is lost.
    """
    if not supernet.finished(out):
        from bcgraph.training.distributed import launcher

        split = _sent(supernet.split) if given else None
        net, data_seed = supernet, supernet.seed if search_seed is None else search_seed
        target = SupernetProcess(net.spec, net.seed, out, net.schedule, net.dtype, net.machine, data_seed, split)
        launcher.run(target, supernet.machine.devices, progress)
    return supernet.take(out)


class _Nowhere:
    """Takes bytes and keeps none."""

    def write(self, content: bytes, /) -> int:
        return len(content)


def _sent(split: Split) -> Split:
    """`split`, which processes can be sent. Raises DataError (E081) where its dataset cannot."""
    try:
        pickle.Pickler(_Nowhere()).dump(split)
    except Exception as error:  # a dataset of the user's own may raise anything
        raise DataError(
            "E081",
            f"`{split.source.name}` cannot be sent to the processes that train the supernet: {error}",
            hint="define its class in a module, and let it open files when it reads them; or devices=1",
        ) from error
    return split


def evaluator(accelerator: str) -> str:
    """Where scores and accuracies are computed with devices of a kind: `cuda`, or `cpu` where `auto` finds no other.

    Raises RunError: E041 for an unknown kind, E074 when this machine has no such device or it cannot compute them.
    """
    found = device_type(Options(accelerator))
    if accelerator == "mps":
        raise RunError("E074", "scores are computed in float64, which `mps` lacks", hint="--accelerator cpu")
    return "cuda" if found == "cuda" else "cpu"


def settled(
    spec: NetworkSpec, out: Path, machine: Options, *, evaluates: bool = False, elsewhere: bool = False
) -> Options:
    """`machine` with the device that `auto` stands for, before a search begins.

    Several devices may be `elsewhere`: on a cluster, which is not asked yet. With `evaluates` candidates are to be
    evaluated on a GPU, where that is the kind. Raises RunError (E074) when this machine has no such device; when a
    supernet is still to be trained, also when there are not so many, and (E041) when its batch is too small to be
    shared.
    """
    missing = trains_supernet(spec.search) and not several.trained(spec, out)
    if missing:
        checks.parts(spec, machine.devices)
    here = evaluates and machine.accelerator == "cuda"
    if elsewhere and machine.devices > 1:
        one = replace(machine, devices=1)
        return replace(machine, accelerator=device_type(one)) if machine.accelerator == "auto" else machine
    if machine.accelerator != "auto" and (machine.accelerator == "cpu" or not (missing or here)):
        return machine
    return replace(machine, accelerator=device_type(machine if missing else replace(machine, devices=1)))
