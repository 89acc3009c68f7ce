"""Supernets trained by processes on all machines of a Ray cluster, and resumed on those left when one is lost.

Each supernet has as many processes as there are devices; each of them takes a part of every batch, with batch
statistics over all of it. After each epoch the driver gets the checkpoint and writes it, so the machines share no
folder. When a process is lost, all processes of that supernet end, and as many new ones continue after the last whole
epoch. On CPUs several may then share a machine: the number of parts of a batch, and so every bit, stays the same.
"""

from __future__ import annotations

import socket
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

from bcgraph import files
from bcgraph.errors import BcgraphError, BcgraphWarning, RunError
from bcgraph.memory import exhausted, ran_out
from bcgraph.search.distributed.pool import ATTEMPTS, PATIENCE
from bcgraph.search.distributed.rank import Progress, Rank, Share
from bcgraph.search.distributed.worker import Introduction, agreed
from bcgraph.search.supernet.checkpoint import STATE, WEIGHTS
from bcgraph.search.supernet.several import Run
from bcgraph.search.supernet.supernet import SupernetEpoch
from bcgraph.training.distributed.machines import Meeting
from bcgraph.training.options import Options

LOOPBACK = "127.0.0.1"

KNOCK = 3.0
"""Seconds in which a machine must answer to be given a process."""


@dataclass(frozen=True, order=True)
class Node:
    """A machine of the cluster: Ray's name of it, and how many processes it has room for."""

    name: str
    room: int


def spread(nodes: Sequence[Node], load: Counter[str], number: int, *, share: bool) -> list[str] | None:
    """The machines of `number` more processes: each goes where most room is left for each process.

    `load` counts those that are there. With `share` a full machine takes more, too; without, None where there is no
    room for all. None without any machine.
    """
    counted = Counter(load)
    chosen: list[str] = []
    for _ in range(number):
        able = [node for node in nodes if share or counted[node.name] < node.room]
        if not able:
            return None
        best = min(able, key=lambda node: ((counted[node.name] + 1) / node.room, node.name))
        counted[best.name] += 1
        chosen.append(best.name)
    return chosen


@dataclass(eq=False)
class _Group:
    """The processes of one supernet. First they introduce themselves (`greetings`), then they train (`streams`)."""

    run: Run
    share: Any
    epoch: int
    since: float
    nodes: list[str] = field(default_factory=list)
    members: list[Any] = field(default_factory=list)
    greetings: dict[Any, int] = field(default_factory=dict)
    met: dict[int, tuple[Introduction, str]] = field(default_factory=dict)
    streams: dict[Any, int] = field(default_factory=dict)
    lost: int = 0


@dataclass(eq=False)
class ElasticTraining:
    """Trains supernets on the Ray cluster that this process is connected to, as many at once as it has CPUs for.

    After `patience` seconds without the machines that a supernet needs it gives up.
    """

    machine: Options
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        import ray

        self.ray: Any = ray
        self._own = Introduction.of_this_process()
        self._resource = "GPU" if self.machine.accelerator == "cuda" else "CPU"
        self._groups: list[_Group] = []

    def __call__(self, runs: Sequence[Run], report: Callable[[Run, SupernetEpoch], None]) -> None:
        """Train all `runs`, or resume them; their supernets then have the weights.

        Raises what `Supernet.train` does, and RunError (E093) when processes are lost again and again, have other
        versions, or find no machine.
        """
        left = deque(run for run in runs if not run.supernet.finished(run.folder))
        at_once, threads = self._sizes(len(left))
        actor = self.ray.remote(num_cpus=0, max_restarts=0)(Rank)
        try:
            while left or self._groups:
                while left and len(self._groups) < at_once:
                    run = left.popleft()
                    share = self.ray.put(Share.of(run.supernet))
                    epoch = run.supernet.epochs_kept(run.folder)
                    self._groups.append(_Group(run, share, epoch, time.monotonic()))
                for group in self._groups:
                    if not group.members:
                        self._start(group, actor, threads)
                for group, ready in self._ready():
                    self._heard(group, ready, report)
        finally:
            for group in self._groups:
                self._end(group)
            self._groups.clear()
        for run in runs:
            run.supernet.take(run.folder)

    def _nodes(self) -> list[Node]:
        found = [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get(self._resource, 0) >= 1]
        return sorted(
            Node(str(node["NodeID"]), int(node["Resources"][self._resource])) for node in found if answers(node)
        )

    def _sizes(self, number: int) -> tuple[int, int]:
        """How many of `number` supernets train at once, and the threads of a process.

        Both stay as they are when a machine is lost: the last digits depend on the number of threads.
        """
        nodes, each = self._nodes(), self.machine.devices
        at_once = max(1, min(number, sum(node.room for node in nodes) // each))
        placed = Counter(spread(nodes, Counter(), at_once * each, share=True))
        cpus = {str(node["NodeID"]): int(node["Resources"].get("CPU", 1)) for node in self.ray.nodes()}
        return at_once, max(1, min((cpus[name] // count for name, count in placed.items()), default=1))

    def _start(self, group: _Group, actor: Any, threads: int) -> None:
        """Start the processes of a group, where there are machines for them."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        load = Counter(name for each in self._groups for name in each.nodes)
        gpus = self._resource == "GPU"
        chosen = spread(self._nodes(), load, self.machine.devices, share=not gpus)
        if chosen is None:
            if time.monotonic() - group.since > self.patience:
                raise RunError(
                    "E093",
                    f"for {self.patience:.0f} seconds the cluster has not had {self.machine.devices} free "
                    f"{self._resource}s to train the supernet on",
                    hint="the same command resumes from here",
                )
            return
        group.nodes = chosen
        for rank, name in enumerate(chosen):
            where = NodeAffinitySchedulingStrategy(name, soft=False)
            member = actor.options(scheduling_strategy=where, num_gpus=int(gpus)).remote(rank, threads)
            group.members.append(member)
            group.greetings[member.meet.remote()] = rank

    def _ready(self) -> Iterator[tuple[_Group, Any]]:
        """What has something to say, and the group it belongs to."""
        owners = {ref: group for group in self._groups for ref in (*group.greetings, *group.streams)}
        if not owners:
            time.sleep(min(1.0, self.patience / 10))
            return
        ready, _ = self.ray.wait(list(owners), num_returns=1, timeout=1.0)
        for ref in ready:
            yield owners[ref], ref

    def _heard(self, group: _Group, ref: Any, report: Callable[[Run, SupernetEpoch], None]) -> None:
        try:
            if ref in group.greetings:
                self._greeted(group, ref)
            else:
                self._progressed(group, ref, report)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, BcgraphError):
                raise cause from None
            if ran_out(cause):
                raise exhausted(cause) from None
            if not broken(cause):
                raise
            self._lose(group, error)
        except self.ray.exceptions.RayError as error:
            self._lose(group, error)

    def _greeted(self, group: _Group, ref: Any) -> None:
        """A process has started. The last one lets all of them train."""
        found = self.ray.get(ref)
        rank = group.greetings.pop(ref)
        agreed(found[0], self._own)
        group.met[rank] = found
        if group.greetings:
            return
        meeting: Meeting | None = None
        addresses = [group.met[rank][1] for rank in range(len(group.members))]
        if len(set(addresses)) == 1:
            # On one machine nothing has to be reached from elsewhere.
            addresses = [LOOPBACK] * len(addresses)
        if len(group.members) > 1:
            port = self.ray.get(group.members[0].listen.remote(addresses[0]))
            meeting = Meeting(addresses[0], port, len(group.members))
        path = group.run.folder / STATE
        kept = self.ray.put(path.read_bytes() if path.exists() else None)
        for rank, member in enumerate(group.members):
            train = member.train.options(num_returns="streaming")
            group.streams[train.remote(group.share, kept, meeting, addresses[rank])] = rank

    def _progressed(self, group: _Group, stream: Any, report: Callable[[Run, SupernetEpoch], None]) -> None:
        try:
            told: Progress = self.ray.get(next(stream))
        except StopIteration:
            if group.streams.pop(stream) == 0:
                self._end(group)
                self._groups.remove(group)
            return
        if told.epoch is None:
            files.write_bytes(group.run.folder / WEIGHTS, told.content)
            return
        files.write_bytes(group.run.folder / STATE, told.content)
        group.epoch, group.lost = told.epoch.epoch, 0
        report(group.run, told.epoch)

    def _lose(self, group: _Group, error: Exception) -> None:
        """A process of a group was lost: end the others, which start again after the last whole epoch."""
        self._end(group)
        group.lost += 1
        group.since = time.monotonic()
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if group.lost >= ATTEMPTS:
            raise RunError(
                "E093",
                f"{ATTEMPTS} times in a row a process that trains was lost before an epoch was done: {reason}",
                hint="if memory has run out, fewer devices may help; the same command resumes",
            ) from error
        warnings.warn(
            BcgraphWarning(f"a process that trains was lost; training resumes after epoch {group.epoch}"), stacklevel=2
        )

    def _end(self, group: _Group) -> None:
        for member in group.members:
            self.ray.kill(member)
        for kept in (group.members, group.nodes, group.greetings, group.met, group.streams):
            kept.clear()


def answers(node: Mapping[str, Any]) -> bool:
    """Whether a machine that Ray takes to be alive can be reached: Ray itself notices a lost one after some seconds."""
    with suppress(OSError):
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=KNOCK).close()
        return True
    return False


def broken(error: object) -> bool:
    """Whether `error` says that the other end of a connection between processes is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
