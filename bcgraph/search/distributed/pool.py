"""A pool of worker processes that does tasks and returns their results in order, whatever happens to the workers.

A lost worker (killed, out of memory, its machine switched off) is replaced, and its tasks are handed out again. A
replacement may have to wait for a free CPU; the other workers continue without it.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bcgraph.errors import BcgraphError, BcgraphWarning, RunError
from bcgraph.memory import exhausted, ran_out
from bcgraph.search.distributed.chunks import TaskSource
from bcgraph.search.distributed.cluster import cpus
from bcgraph.search.distributed.usage import Usage
from bcgraph.search.distributed.worker import Introduction, Worker, Workload, agreed

DEPTH = 2
"""Tasks that a worker holds: the one that it does, and the next one."""

WINDOW = 8
"""Tasks for each worker that may be done before an earlier one is."""

ATTEMPTS = 4
"""Workers that may be lost on one task. If more are lost, the task is the cause."""

PATIENCE = 600.0
"""Seconds without a single worker after which the pool gives up. A cluster may have to start machines first."""


@dataclass(eq=False)
class _Task:
    place: int
    content: Any
    lost: int = 0


@dataclass(eq=False)
class _Member:
    """A worker as the pool sees it. Its tasks are done in the order in which they were sent."""

    handle: Any
    taking: Any
    introduction: Introduction | None = None
    since: float = 0.0
    tasks: dict[Any, _Task] = field(default_factory=dict)


class Pool:
    """`workers` processes of `threads` threads each in the Ray that this process is connected to.

    They are spread over its machines. After `patience` seconds without a single worker the pool gives up.
    """

    def __init__(self, workers: int, threads: int, *, patience: float = PATIENCE) -> None:
        import ray

        self.ray: Any = ray
        self.workers = workers
        self.threads = threads
        self.patience = patience
        self.usage = Usage(workers, threads)
        self.seen: list[Introduction] = []
        self._actor = self.ray.remote(num_cpus=threads, max_restarts=0, scheduling_strategy="SPREAD")(Worker)
        self._lost = (
            ray.exceptions.RayActorError,
            ray.exceptions.ObjectLostError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
        )
        self._members: list[_Member] = []
        self._workload: Any = None
        self._own = Introduction.of_this_process()
        self._failed_starts = 0

    def give(self, workload: Workload) -> None:
        """Give all workers a new workload. The first one starts their processes, which later ones keep."""
        self._workload = self.ray.put(workload)
        for member in self._members:
            member.taking, member.introduction = member.handle.take.remote(self._workload), None
            member.tasks.clear()
        for _ in range(self.workers - len(self._members)):
            self._hire()

    def run(self, source: TaskSource) -> Iterator[Any]:
        """The results of all tasks of `source`, in order.

        Raises RunError (E093) when too many workers are lost on one task, when no worker starts, and when a worker has
        other versions than this process. Errors of a task are raised here.
        """
        again: deque[_Task] = deque()
        done: dict[int, Any] = {}
        drawn = delivered = 0
        exhausted = False
        begun = idle_since = time.monotonic()
        busy = 0.0
        for member in self._members:
            member.since = begun
            member.tasks.clear()
        try:
            while True:
                while delivered in done:
                    yield done.pop(delivered)
                    delivered += 1
                while (idle := self._idlest()) is not None:
                    task = again.popleft() if again else None
                    if task is None and not exhausted and drawn - delivered < WINDOW * self.workers:
                        content = source.draw()
                        exhausted = content is None
                        task = None if exhausted else _Task(drawn, content)
                        drawn += task is not None
                    if task is None:
                        break
                    idle.tasks[idle.handle.do.remote(task.content)] = task
                if exhausted and delivered == drawn:
                    return
                if any(member.introduction for member in self._members):
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > self.patience:
                    raise self._no_worker()
                for member, found in self._next():
                    if isinstance(found, Exception):
                        # Of what a lost worker had, each task says so.
                        left = self._replace(member, found) if member in self._members else []
                        again = deque(sorted([*again, *left], key=lambda t: t.place))
                    elif isinstance(found, Introduction):
                        self._welcome(member, found)
                    else:
                        task, (result, seconds) = found
                        done[task.place] = result
                        source.took(task.content, seconds)
                        busy += seconds
        finally:
            now = time.monotonic()
            available = sum(now - m.since for m in self._members if m.introduction is not None)
            self.usage.add(busy, available, now - begun)

    def close(self) -> None:
        """End all workers."""
        for member in self._members:
            self.ray.kill(member.handle)
        self._members.clear()

    def _idlest(self) -> _Member | None:
        """The member with the fewest tasks, if one can take more: the last tasks must not queue up at one of them."""
        able = (m for m in self._members if m.introduction is not None and len(m.tasks) < DEPTH)
        return min(able, key=lambda m: len(m.tasks), default=None)

    def _next(self) -> list[tuple[_Member, Any]]:
        """What happened since the last call: introductions, tasks with their results, errors of lost workers."""
        owners = {m.taking: m for m in self._members if m.introduction is None}
        owners |= {ref: m for m in self._members for ref in m.tasks}
        ready, _ = self.ray.wait(list(owners), num_returns=1, timeout=1.0)
        if ready:
            ready, _ = self.ray.wait(list(owners), num_returns=len(owners), timeout=0)
        found: list[tuple[_Member, Any]] = []
        for ref in ready:
            member = owners[ref]
            try:
                value = self.ray.get(ref)
            except self._lost as error:
                found.append((member, error))
                continue
            except self.ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, BcgraphError):
                    raise error.cause from None
                if ran_out(error.cause):
                    raise exhausted(error.cause) from None
                raise
            found.append((member, value if ref == member.taking else (member.tasks.pop(ref), value)))
        return found

    def _hire(self) -> None:
        handle = self._actor.remote(self.threads)
        self._members.append(_Member(handle, handle.take.remote(self._workload)))

    def _welcome(self, member: _Member, introduction: Introduction) -> None:
        """A worker has taken the workload."""
        agreed(introduction, self._own)
        if introduction.processor != self._own.processor and all(
            i.processor != introduction.processor for i in self.seen
        ):
            _note(
                f"a worker on `{introduction.host}` computes on {introduction.processor}, this process on "
                f"{self._own.processor}: float32 values may differ in their last digits between them"
            )
        member.introduction = introduction
        member.since = time.monotonic()
        self.seen.append(introduction)
        self.usage.machines = len({i.node for i in self.seen})
        self._failed_starts = 0

    def _replace(self, member: _Member, error: Exception) -> list[_Task]:
        """Replace a lost worker. Returns the tasks to be done again."""
        self.ray.kill(member.handle)
        self._members.remove(member)
        left = list(member.tasks.values())
        if member.introduction is None:
            self._failed_starts += 1
            if self._failed_starts > ATTEMPTS * self.workers:
                raise RunError("E093", f"workers end as soon as they start: {_last(error)}") from error
        else:
            _note(f"a worker on `{member.introduction.host}` was lost; what it was doing is done again")
            self.usage.lost += 1
            self.usage.available += time.monotonic() - member.since
            self.usage.again += len(left)
        if left:
            # It died of the first, if it died of any of them.
            left[0].lost += 1
            if left[0].lost >= ATTEMPTS:
                raise RunError(
                    "E093",
                    f"{ATTEMPTS} workers were lost on the same task: {_first(error)}",
                    hint="if memory has run out, fewer workers may help; the same command resumes from here",
                ) from error
        self._hire()
        return left

    def _no_worker(self) -> RunError:
        return RunError(
            "E093",
            f"no worker has started for {self.patience:.0f} seconds; "
            f"each needs {self.threads} CPUs, and the cluster has {cpus():g} in all",
            hint="the same command resumes from here",
        )


def _first(error: Exception) -> str:
    return _lines(error)[0]


def _last(error: Exception) -> str:
    """The last line of a traceback: the reason."""
    return _lines(error)[-1]


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]


def _note(text: str) -> None:
    warnings.warn(BcgraphWarning(text), stacklevel=3)
