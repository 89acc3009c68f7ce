"""The code that runs in each process of a cluster that trains a supernet with others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bcgraph.data.split import Split
from bcgraph.schema import NetworkSpec
from bcgraph.search.distributed.worker import Introduction
from bcgraph.search.supernet.checkpoint import STATE, WEIGHTS
from bcgraph.search.supernet.supernet import Supernet, SupernetEpoch
from bcgraph.training.distributed import machines
from bcgraph.training.distributed.devices import process_group
from bcgraph.training.distributed.machines import Listener, Meeting
from bcgraph.training.options import Options


@dataclass(frozen=True, eq=False)
class Share:
    """What each process needs to train its share of a supernet. It travels to each of them once."""

    spec: NetworkSpec
    seed: int
    schedule: str
    dtype: torch.dtype
    machine: Options
    split: Split

    @staticmethod
    def of(supernet: Supernet) -> Share:
        """The work on `supernet`, whose weights each process draws for itself."""
        net = supernet
        return Share(net.spec, net.seed, net.schedule, net.dtype, net.machine, net.split)


@dataclass(frozen=True)
class Progress:
    """What the first process sends: an epoch with its checkpoint, or at the end the file of the weights."""

    epoch: SupernetEpoch | None
    content: bytes


class Rank:
    """The actor: process number `rank` of those that train a supernet, on `threads` threads."""

    def __init__(self, rank: int, threads: int) -> None:
        self.rank = rank
        self.listener: Listener | None = None
        # Fabric sets the number of threads unless this is set.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)

    def meet(self) -> tuple[Introduction, str]:
        """Who this process is, and the address of its machine in the cluster."""
        import ray

        address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        return Introduction.of_this_process(ray.get_runtime_context().get_node_id()), address

    def listen(self, host: str) -> int:
        """Called for the first process: the port on which it waits for the others."""
        self.listener = Listener(host)
        return self.listener.port

    def train(self, share: Share, kept: bytes | None, meeting: Meeting | None, address: str) -> Iterator[Progress]:
        """Train from the checkpoint `kept`, with the others of a `meeting`. The first process yields its progress.

        Raises what `Supernet.train` does, in all processes alike.
        """
        if meeting is not None:
            machines.join(meeting, self.rank, address, cuda=share.machine.accelerator == "cuda", listener=self.listener)
        # An architecture uses few of the projections. Buffers need no broadcast: statistics are equal everywhere.
        group = process_group(
            share.machine, started=True, apart=True, find_unused_parameters=True, broadcast_buffers=False
        )
        net = Supernet(share.spec, share.seed, share.split, share.schedule, share.dtype, share.machine, group.device)
        if group.world_size > 1:
            from bcgraph.training.distributed.sync_batch_norm import synchronize

            synchronize(net.full)
        with TemporaryDirectory() as own:
            out = Path(own)
            if kept is not None:
                (out / STATE).write_bytes(kept)
            for epoch in net.epochs(out, group):
                if group.is_global_zero:
                    yield Progress(epoch, (out / STATE).read_bytes())
            if group.is_global_zero:
                yield Progress(None, (out / WEIGHTS).read_bytes())
